package authz

default allow := false

allow if {
	input.body.amount <= 10000
	input.env == "prod"
}
