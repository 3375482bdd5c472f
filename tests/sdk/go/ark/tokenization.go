//go:build !sdk2024

package main

import (
	"context"

	"arkway.invalid/sdk/lines"
	"github.com/volcengine/volcengine-go-sdk/service/arkruntime/model"
)

// The SDK of mid-2024 has no tokenization yet.
func init() {
	operations["v3 tokenization"] = func(ask lines.Ask) lines.Answer {
		request := lines.Parse[model.TokenizationRequestStrings](ask)
		response, err := connect(ask).CreateTokenization(context.Background(), *request)
		return once(response, err)
	}
}
