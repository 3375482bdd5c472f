package main

import (
	"context"
	"io"

	"arkway.invalid/sdk/lines"
	"github.com/volcengine/volcengine-go-sdk/service/arkruntime/model"
)

func init() {
	operations["v3 bot_chat"] = botChat
	operations["v3 bot_stream"] = botStream
}

func botChat(ask lines.Ask) lines.Answer {
	request := lines.Parse[model.BotChatCompletionRequest](ask)
	response, err := connect(ask).CreateBotChatCompletion(context.Background(), *request)
	return once(response, err)
}

func botStream(ask lines.Ask) lines.Answer {
	request := lines.Parse[model.BotChatCompletionRequest](ask)
	chunks, err := connect(ask).CreateBotChatCompletionStream(context.Background(), *request)
	if err != nil {
		return lines.Answer{Error: surfaced(err)}
	}
	defer chunks.Close()
	seen := []any{}
	for {
		chunk, err := chunks.Recv()
		if err == io.EOF {
			return lines.Answer{Result: seen}
		}
		if err != nil {
			return lines.Answer{Chunks: seen, Error: surfaced(err)}
		}
		seen = append(seen, chunk)
	}
}
