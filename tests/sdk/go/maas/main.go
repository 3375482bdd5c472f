// Command maas makes calls with volc-sdk-golang, the client of MaaS v1 and v2, as its users do.
package main

import "arkway.invalid/sdk/lines"

// abortAfter is how many chunks a caller reads that then leaves.
const abortAfter = 3

func main() {
	operations := map[string]lines.Operation{}
	for name, operation := range v1 {
		operations["v1 "+name] = operation
	}
	for name, operation := range v2 {
		operations["v2 "+name] = operation
	}
	lines.Serve(operations)
}

// once makes a call that has one answer.
func once[Request, Response any](
	ask lines.Ask, send func(*Request) (Response, int, error), surfaced func(error) *lines.Error,
) lines.Answer {
	response, status, err := send(lines.Parse[Request](ask))
	if err != nil {
		failure := surfaced(err)
		failure.Status = status
		return lines.Answer{Status: status, Error: failure}
	}
	return lines.Answer{Result: response, Status: status}
}

// collect reads a stream to its end, or up to a number of chunks; failed gives the error that a chunk carries.
func collect[Chunk any](chunks <-chan Chunk, failed func(Chunk) *lines.Error, limit int) lines.Answer {
	seen := []any{}
	for chunk := range chunks {
		if failure := failed(chunk); failure != nil {
			return lines.Answer{Chunks: seen, Error: failure}
		}
		seen = append(seen, chunk)
		if len(seen) == limit {
			break
		}
	}
	return lines.Answer{Result: seen}
}
