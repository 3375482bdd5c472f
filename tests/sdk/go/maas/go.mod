module arkway.invalid/sdk/maas

go 1.21

require (
	arkway.invalid/sdk/lines v0.0.0
	github.com/volcengine/volc-sdk-golang v1.0.253
)

require (
	github.com/cenkalti/backoff/v4 v4.1.2 // indirect
	github.com/google/martian v2.1.0+incompatible // indirect
	github.com/google/uuid v1.3.0 // indirect
	golang.org/x/crypto v0.11.0 // indirect
	golang.org/x/net v0.12.0 // indirect
	golang.org/x/text v0.11.0 // indirect
	google.golang.org/protobuf v1.28.0 // indirect
)

replace arkway.invalid/sdk/lines => ../lines
