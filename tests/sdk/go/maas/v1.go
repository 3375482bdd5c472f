package main

import (
	"context"
	"errors"
	"fmt"

	"arkway.invalid/sdk/lines"
	"github.com/volcengine/volc-sdk-golang/service/maas"
	"github.com/volcengine/volc-sdk-golang/service/maas/models/api"
)

var v1 = map[string]lines.Operation{
	"chat":           func(ask lines.Ask) lines.Answer { return once(ask, v1Client(ask).Chat, v1Error) },
	"secret_chat":    func(ask lines.Ask) lines.Answer { return once(ask, v1Client(ask).SecretChat, v1Error) },
	"tokenization":   func(ask lines.Ask) lines.Answer { return once(ask, v1Client(ask).Tokenization, v1Error) },
	"classification": func(ask lines.Ask) lines.Answer { return once(ask, v1Client(ask).Classification, v1Error) },
	"embeddings":     func(ask lines.Ask) lines.Answer { return once(ask, v1Client(ask).Embeddings, v1Error) },
	"stream":         func(ask lines.Ask) lines.Answer { return v1Stream(ask, v1Client(ask).StreamChatWithCtx, 0) },
	"secret_stream":  func(ask lines.Ask) lines.Answer { return v1Stream(ask, v1Client(ask).SecretStreamChatWithCtx, 0) },
	"abort":          func(ask lines.Ask) lines.Answer { return v1Stream(ask, v1Client(ask).StreamChatWithCtx, abortAfter) },
}

func v1Client(ask lines.Ask) *maas.MaaS {
	client := maas.NewInstance(ask.Host, "cn-beijing")
	client.SetScheme(ask.Scheme)
	client.SetAccessKey(ask.AccessKey)
	client.SetSecretKey(ask.SecretKey)
	if ask.SessionToken != "" {
		client.SetSessionToken(ask.SessionToken)
	}
	return client
}

type v1Open func(context.Context, *api.ChatReq) (<-chan *api.ChatResp, error)

func v1Stream(ask lines.Ask, open v1Open, limit int) lines.Answer {
	ctx, leave := context.WithCancel(context.Background())
	defer leave()
	chunks, err := open(ctx, lines.Parse[api.ChatReq](ask))
	if err != nil {
		return lines.Answer{Error: v1Error(err)}
	}
	failed := func(chunk *api.ChatResp) *lines.Error {
		if chunk.Error == nil {
			return nil
		}
		return v1Error(chunk.Error)
	}
	return collect(chunks, failed, limit)
}

func v1Error(err error) *lines.Error {
	failure := &lines.Error{Class: fmt.Sprintf("%T", err), Message: err.Error()}
	var known *api.Error
	// The SDK gives a typed nil where an answer's error is not in the shape it expects.
	if errors.As(err, &known) && known != nil {
		failure.Class = fmt.Sprintf("%T", known)
		failure.Code, failure.CodeN, failure.Message = known.Code, int(known.CodeN), known.Message
	}
	return failure
}
