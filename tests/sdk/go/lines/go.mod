module arkway.invalid/sdk/lines

go 1.21
