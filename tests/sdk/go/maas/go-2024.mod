module arkway.invalid/sdk/maas-2024

go 1.21

require (
	arkway.invalid/sdk/lines v0.0.0
	github.com/volcengine/volc-sdk-golang v1.0.160
)

require (
	github.com/cenkalti/backoff/v4 v4.2.1 // indirect
	github.com/google/martian v2.1.0+incompatible // indirect
	github.com/google/uuid v1.6.0 // indirect
	golang.org/x/crypto v0.21.0 // indirect
	golang.org/x/net v0.22.0 // indirect
	golang.org/x/text v0.14.0 // indirect
	google.golang.org/protobuf v1.33.0 // indirect
)

replace arkway.invalid/sdk/lines => ../lines
