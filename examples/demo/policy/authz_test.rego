package authz

teller := {"peer": {"spiffe": "spiffe://bank.test/teller"}}

test_teller_may_read if {
	allow with input as object.union(teller, {"route": "read-account"})
}

test_stranger_may_not_read if {
	not allow with input as {"peer": {"spiffe": "spiffe://bank.test/x"}, "route": "read-account"}
}

test_small_transfer_is_not_denied if {
	count(deny) == 0 with input as object.union(teller, {"route": "transfer", "body": {"amount": 500000}})
}

test_large_transfer_is_denied if {
	"over_limit" in deny with input as object.union(teller, {"route": "transfer", "body": {"amount": 500001}})
}

test_nothing_is_no_transfer if {
	"not_positive" in deny with input as object.union(teller, {"route": "transfer", "body": {"amount": 0}})
}
