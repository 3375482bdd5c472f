// Package lines is the conversation between a test and a program that holds an SDK: one JSON object per line each way.
package lines

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
)

// Ask is one call to make. Host has no scheme; which of the credentials are used depends on the operation.
type Ask struct {
	Operation    string          `json:"operation"`
	Scheme       string          `json:"scheme"`
	Host         string          `json:"host"`
	AccessKey    string          `json:"access_key_id"`
	SecretKey    string          `json:"secret_access_key"`
	SessionToken string          `json:"session_token"`
	APIKey       string          `json:"api_key"`
	EndpointID   string          `json:"endpoint_id"`
	Arguments    json.RawMessage `json:"arguments"`
}

// Error is what an SDK surfaced of a failure; Class is the Go type of its error.
type Error struct {
	Class     string `json:"class"`
	Code      string `json:"code"`
	CodeN     int    `json:"code_n"`
	Message   string `json:"message"`
	Param     string `json:"param"`
	Type      string `json:"type"`
	RequestID string `json:"request_id"`
	Status    int    `json:"status"`
}

// Answer is what an SDK surfaced of a call: a result (a list of chunks, for a stream), or an error after Chunks.
type Answer struct {
	Result any    `json:"result"`
	Status int    `json:"status"`
	Chunks []any  `json:"chunks"`
	Error  *Error `json:"error,omitempty"`
}

// Operation makes one kind of call.
type Operation func(Ask) Answer

// Serve answers line after line until standard input ends. What an SDK prints goes to standard error.
func Serve(operations map[string]Operation) {
	answers := json.NewEncoder(os.Stdout)
	answers.SetEscapeHTML(false)
	os.Stdout = os.Stderr
	questions := json.NewDecoder(bufio.NewReader(os.Stdin))
	for {
		var ask Ask
		if err := questions.Decode(&ask); err == io.EOF {
			return
		} else if err != nil {
			panic(err)
		}
		if err := answers.Encode(answer(operations, ask)); err != nil {
			panic(err)
		}
	}
}

func answer(operations map[string]Operation, ask Ask) Answer {
	operation, known := operations[ask.Operation]
	if !known {
		return Answer{Error: &Error{Class: "driver", Message: "this SDK has no " + ask.Operation}}
	}
	return operation(ask)
}

// Parse reads the arguments of a call into the SDK's own type.
func Parse[Request any](ask Ask) *Request {
	request := new(Request)
	if err := json.Unmarshal(ask.Arguments, request); err != nil {
		panic(err)
	}
	return request
}
