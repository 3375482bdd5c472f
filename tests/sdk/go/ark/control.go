//go:build !sdk2024

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"

	"arkway.invalid/sdk/lines"
	"github.com/volcengine/volcengine-go-sdk/service/ark"
	"github.com/volcengine/volcengine-go-sdk/service/arkruntime"
	"github.com/volcengine/volcengine-go-sdk/service/arkruntime/model"
	"github.com/volcengine/volcengine-go-sdk/volcengine"
	"github.com/volcengine/volcengine-go-sdk/volcengine/credentials"
	"github.com/volcengine/volcengine-go-sdk/volcengine/session"
	"github.com/volcengine/volcengine-go-sdk/volcengine/volcengineerr"
)

// controlPlaneHost is where the SDK's AK/SK mode asks for keys; there is no option for it.
const controlPlaneHost = "open.volcengineapi.com"

var actions = []string{
	"CreateEndpoint", "GetEndpoint", "ListEndpoints", "StopEndpoint", "DeleteEndpoint", "GetApiKey",
	"GetEndpointCertificate", "CreateEvaluationJob",
}

// keyed holds the AK/SK mode's client from call to call: it keeps the key it was given, as in a user's program.
var keyed = map[string]*arkruntime.Client{}

func init() {
	for _, action := range actions {
		name := action
		operations["control "+name] = func(ask lines.Ask) lines.Answer { return control(ask, name) }
	}
	operations["aksk chat"] = akskChat
}

func control(ask lines.Ask, action string) lines.Answer {
	config := volcengine.NewConfig().
		WithEndpoint(ask.Host).
		WithDisableSSL(true).
		WithRegion("cn-beijing").
		WithCredentials(credentials.NewStaticCredentials(ask.AccessKey, ask.SecretKey, ask.SessionToken))
	opened, err := session.NewSession(config)
	if err != nil {
		panic(err)
	}
	method := reflect.ValueOf(ark.New(opened)).MethodByName(action)
	input := reflect.New(method.Type().In(0).Elem())
	if err := json.Unmarshal(ask.Arguments, input.Interface()); err != nil {
		panic(err)
	}
	results := method.Call([]reflect.Value{input})
	if failure, failed := results[1].Interface().(error); failed {
		return lines.Answer{Error: controlError(failure)}
	}
	return lines.Answer{Result: results[0].Interface()}
}

func controlError(err error) *lines.Error {
	failure := &lines.Error{Class: fmt.Sprintf("%T", err), Message: err.Error()}
	if known, is := err.(volcengineerr.RequestFailure); is {
		failure.Code, failure.Message = known.Code(), known.Message()
		failure.Status, failure.RequestID = known.StatusCode(), known.RequestID()
	}
	return failure
}

// redirected takes what is meant for the vendor's control plane to a server of ours, changed in nothing else: the
// signature is over the vendor's host.
type redirected struct{ host string }

func (to redirected) RoundTrip(request *http.Request) (*http.Response, error) {
	if strings.EqualFold(request.URL.Hostname(), controlPlaneHost) {
		request = request.Clone(request.Context())
		request.Host = request.URL.Host
		request.URL.Scheme, request.URL.Host = "http", to.host
	}
	return http.DefaultTransport.RoundTrip(request)
}

func akskChat(ask lines.Ask) lines.Answer {
	client, known := keyed[ask.Host+ask.AccessKey]
	if !known {
		client = arkruntime.NewClientWithAkSk(
			ask.AccessKey, ask.SecretKey,
			arkruntime.WithBaseUrl(ask.Scheme+"://"+ask.Host+"/api/v3"),
			arkruntime.WithHTTPClient(&http.Client{Transport: redirected{ask.Host}}),
		)
		keyed[ask.Host+ask.AccessKey] = client
	}
	request := lines.Parse[model.ChatCompletionRequest](ask)
	// For a model by its name the SDK wants to know the project.
	project := arkruntime.WithProjectName("default")
	response, err := client.CreateChatCompletion(context.Background(), *request, project)
	return once(response, err)
}
