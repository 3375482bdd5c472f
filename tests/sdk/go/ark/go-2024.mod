module arkway.invalid/sdk/ark-2024

go 1.21

require (
	arkway.invalid/sdk/lines v0.0.0
	github.com/volcengine/volcengine-go-sdk v1.0.146
)

require (
	github.com/google/uuid v1.3.0 // indirect
	github.com/jmespath/go-jmespath v0.4.0 // indirect
	github.com/volcengine/volc-sdk-golang v1.0.23 // indirect
)

replace arkway.invalid/sdk/lines => ../lines
