"""Where a web search is made: one provider a file, each behind `arkway.search.found.Provider`."""
