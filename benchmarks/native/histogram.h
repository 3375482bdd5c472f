/* Durations in buckets whose width is at most 1/128 of their value, as HdrHistogram has them (log-linear). */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>
#include <stdio.h>

#define SUB_BITS 7
#define SUB (1u << SUB_BITS)
#define BUCKETS ((64 - SUB_BITS + 1) * SUB)

struct histogram {
    uint64_t counts[BUCKETS];
    uint64_t count, sum, max;
};

static inline unsigned bucket_of(uint64_t value) {
    if (value < SUB) return (unsigned)value;
    unsigned shift = 63 - (unsigned)__builtin_clzll(value) - SUB_BITS;
    return (shift + 1) * SUB + (unsigned)((value >> shift) - SUB);
}

/* The largest value that falls into the bucket. */
static inline uint64_t bucket_top(unsigned bucket) {
    if (bucket < SUB) return bucket;
    unsigned shift = bucket / SUB - 1;
    return ((uint64_t)(bucket % SUB + SUB + 1) << shift) - 1;
}

static inline void histogram_add(struct histogram *h, uint64_t value) {
    h->counts[bucket_of(value)]++;
    h->count++;
    h->sum += value;
    if (value > h->max) h->max = value;
}

/* The smallest bucket's top that at least `share` of the values do not exceed; never more than the largest value. */
static inline uint64_t histogram_quantile(const struct histogram *h, double share) {
    if (!h->count) return 0;
    uint64_t rank = (uint64_t)(share * (double)h->count + 0.9999999), seen = 0;
    if (!rank) rank = 1;
    for (unsigned b = 0; b < BUCKETS; b++) {
        seen += h->counts[b];
        if (seen >= rank) return bucket_top(b) < h->max ? bucket_top(b) : h->max;
    }
    return h->max;
}

/* A JSON object; `buckets` holds [largest value, count] of every bucket that is not empty. */
static inline void histogram_print(FILE *out, const char *name, const struct histogram *h) {
    fprintf(out, "\"%s\":{\"count\":%llu,\"mean\":%.0f,\"max\":%llu", name, (unsigned long long)h->count,
            h->count ? (double)h->sum / (double)h->count : 0.0, (unsigned long long)h->max);
    static const double shares[] = {0.5, 0.9, 0.99, 0.999};
    static const char *const names[] = {"p50", "p90", "p99", "p999"};
    for (unsigned i = 0; i < 4; i++)
        fprintf(out, ",\"%s\":%llu", names[i], (unsigned long long)histogram_quantile(h, shares[i]));
    fprintf(out, ",\"buckets\":[");
    const char *comma = "";
    for (unsigned b = 0; b < BUCKETS; b++) {
        if (!h->counts[b]) continue;
        fprintf(out, "%s[%llu,%llu]", comma, (unsigned long long)bucket_top(b), (unsigned long long)h->counts[b]);
        comma = ",";
    }
    fprintf(out, "]}");
}

#endif
