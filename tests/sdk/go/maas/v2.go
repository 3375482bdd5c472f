package main

import (
	"context"
	"errors"
	"fmt"

	"arkway.invalid/sdk/lines"
	api "github.com/volcengine/volc-sdk-golang/service/maas/models/api/v2"
	client "github.com/volcengine/volc-sdk-golang/service/maas/v2"
)

var v2 = map[string]lines.Operation{
	"chat":           func(ask lines.Ask) lines.Answer { return v2Once(ask, v2Client(ask).Chat) },
	"secret_chat":    func(ask lines.Ask) lines.Answer { return v2Once(ask, v2Client(ask).SecretChat) },
	"tokenization":   func(ask lines.Ask) lines.Answer { return v2Once(ask, v2Client(ask).Tokenization) },
	"classification": func(ask lines.Ask) lines.Answer { return v2Once(ask, v2Client(ask).Classification) },
	"embeddings":     func(ask lines.Ask) lines.Answer { return v2Once(ask, v2Client(ask).Embeddings) },
	"images":         func(ask lines.Ask) lines.Answer { return v2Once(ask, v2Client(ask).Images().ImagesFlexGen) },
	"stream":         func(ask lines.Ask) lines.Answer { return v2Stream(ask, v2Client(ask).StreamChatWithCtx, 0) },
	"secret_stream":  func(ask lines.Ask) lines.Answer { return v2Stream(ask, v2Client(ask).SecretStreamChatWithCtx, 0) },
	"abort":          func(ask lines.Ask) lines.Answer { return v2Stream(ask, v2Client(ask).StreamChatWithCtx, abortAfter) },
}

// v2Client signs its calls, unless there is an API key to send instead.
func v2Client(ask lines.Ask) *client.MaaS {
	made := client.NewInstance(ask.Host, "cn-beijing")
	made.SetScheme(ask.Scheme)
	made.SetAccessKey(ask.AccessKey)
	made.SetSecretKey(ask.SecretKey)
	if ask.SessionToken != "" {
		made.SetSessionToken(ask.SessionToken)
	}
	if ask.APIKey != "" {
		made.SetApikey(ask.APIKey)
	}
	return made
}

func v2Once[Request, Response any](
	ask lines.Ask, send func(string, *Request) (Response, int, error),
) lines.Answer {
	bound := func(request *Request) (Response, int, error) { return send(ask.EndpointID, request) }
	return once(ask, bound, v2Error)
}

type v2Open func(context.Context, string, *api.ChatReq) (<-chan *api.ChatResp, error)

func v2Stream(ask lines.Ask, open v2Open, limit int) lines.Answer {
	ctx, leave := context.WithCancel(context.Background())
	defer leave()
	chunks, err := open(ctx, ask.EndpointID, lines.Parse[api.ChatReq](ask))
	if err != nil {
		return lines.Answer{Error: v2Error(err)}
	}
	failed := func(chunk *api.ChatResp) *lines.Error {
		if chunk.Error == nil {
			return nil
		}
		return v2Error(chunk.Error)
	}
	return collect(chunks, failed, limit)
}

func v2Error(err error) *lines.Error {
	failure := &lines.Error{Class: fmt.Sprintf("%T", err), Message: err.Error()}
	var known *api.Error
	if errors.As(err, &known) && known != nil {
		failure.Class = fmt.Sprintf("%T", known)
		failure.Code, failure.CodeN, failure.Message = known.Code, known.CodeN, known.Message
		failure.RequestID = known.ReqId
	}
	return failure
}
