package cards

acquirer := {"peer": {"spiffe": "spiffe://bank.test/acquirer"}}

purchase(amount, currency) := object.union(acquirer, {
	"route": "purchase",
	"body": {"amount": amount, "currency": currency},
})

test_a_purchase_within_the_limit_passes if {
	allow with input as purchase(2000000, "156")
	count(deny) == 0 with input as purchase(2000000, "156")
}

test_a_purchase_beyond_it_does_not if {
	"over_limit" in deny with input as purchase(2000001, "156")
}

test_another_currency_does_not if {
	"wrong_currency" in deny with input as purchase(1, "840")
}

test_a_stranger_may_nothing if {
	not allow with input as {"peer": {"spiffe": "spiffe://bank.test/x"}, "route": "reversal"}
}

test_over_http_only_purchases_pass if {
	shop := {"peer": {"spiffe": "spiffe://bank.test/shop"}, "route": "purchase-over-http"}
	fields := {"processing_code": "310000"}
	"not_a_purchase" in deny with input as object.union(shop, {"body": {"fields": fields}})
}
