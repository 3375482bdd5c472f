// Command ark makes calls with volcengine-go-sdk's arkruntime, the client of Ark v3, as its users do.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"arkway.invalid/sdk/lines"
	"github.com/volcengine/volcengine-go-sdk/service/arkruntime"
	"github.com/volcengine/volcengine-go-sdk/service/arkruntime/model"
)

// abortAfter is how many chunks a caller reads that then leaves.
const abortAfter = 3

var operations = map[string]lines.Operation{
	"v3 chat":       chat,
	"v3 stream":     func(ask lines.Ask) lines.Answer { return stream(ask, 0) },
	"v3 abort":      func(ask lines.Ask) lines.Answer { return stream(ask, abortAfter) },
	"v3 embeddings": embeddings,
}

func main() { lines.Serve(operations) }

func connect(ask lines.Ask) *arkruntime.Client {
	return arkruntime.NewClientWithApiKey(ask.APIKey, arkruntime.WithBaseUrl(ask.Scheme+"://"+ask.Host+"/api/v3"))
}

func chat(ask lines.Ask) lines.Answer {
	request := lines.Parse[model.ChatCompletionRequest](ask)
	response, err := connect(ask).CreateChatCompletion(context.Background(), *request)
	return once(response, err)
}

func embeddings(ask lines.Ask) lines.Answer {
	request := lines.Parse[model.EmbeddingRequestStrings](ask)
	response, err := connect(ask).CreateEmbeddings(context.Background(), *request)
	return once(response, err)
}

func stream(ask lines.Ask, limit int) lines.Answer {
	request := lines.Parse[model.ChatCompletionRequest](ask)
	chunks, err := connect(ask).CreateChatCompletionStream(context.Background(), *request)
	if err != nil {
		return lines.Answer{Error: surfaced(err)}
	}
	defer chunks.Close()
	seen := []any{}
	for limit == 0 || len(seen) < limit {
		chunk, err := chunks.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			return lines.Answer{Chunks: seen, Error: surfaced(err)}
		}
		seen = append(seen, chunk)
	}
	return lines.Answer{Result: seen}
}

func once[Response any](response Response, err error) lines.Answer {
	if err != nil {
		return lines.Answer{Error: surfaced(err)}
	}
	return lines.Answer{Result: response}
}

func surfaced(err error) *lines.Error {
	failure := &lines.Error{Class: fmt.Sprintf("%T", err), Message: err.Error()}
	var known *model.APIError
	if errors.As(err, &known) {
		failure.Class = fmt.Sprintf("%T", known) // some versions wrap it
		failure.Code, failure.Message, failure.Type = known.Code, known.Message, known.Type
		failure.RequestID, failure.Status = known.RequestId, known.HTTPStatusCode
		if known.Param != nil {
			failure.Param = *known.Param
		}
	}
	var raw *model.RequestError
	if errors.As(err, &raw) {
		failure.Status, failure.RequestID = raw.HTTPStatusCode, raw.RequestId
	}
	return failure
}
