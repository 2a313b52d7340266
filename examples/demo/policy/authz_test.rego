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

test_large_transfer_is_challenged_until_it_is_proved if {
	large := object.union(teller, {"route": "transfer", "body": {"amount": 400001}})
	count(challenge) == 1 with input as object.union(large, {"step_up": {"state": "none"}})
	count(challenge) == 0 with input as object.union(large, {"step_up": {"state": "satisfied"}})
}

test_small_transfer_is_not_challenged if {
	small := object.union(teller, {"route": "transfer", "body": {"amount": 400000}})
	count(challenge) == 0 with input as object.union(small, {"step_up": {"state": "none"}})
}

acquirer := {"peer": {"spiffe": "spiffe://bank.test/acquirer"}}

test_acquirer_may_purchase_within_its_limit if {
	small := object.union(acquirer, {"route": "card-purchase", "body": {"amount": 300000}})
	allow with input as small
	count(deny) == 0 with input as small
}

test_acquirer_may_not_purchase_beyond_it if {
	large := object.union(acquirer, {"route": "card-purchase", "body": {"amount": 300001}})
	"over_card_limit" in deny with input as large
}

test_teller_has_no_cards if {
	not allow with input as object.union(teller, {"route": "card-purchase", "body": {"amount": 1}})
}
