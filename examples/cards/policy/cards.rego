# Who may send which card messages. Grants and limits are data (acquirers.json).
package cards

default allow := false

grants := data.acquirers[input.peer.spiffe]

# What a message needs is said by its route.
allow if input.route in grants.may

deny contains "over_limit" if {
	input.route == "purchase"
	input.body.amount > object.get(grants, "purchase_limit", 0)
}

# Field 49 is the currency (ISO 4217); 156 is the yuan. A message without one is in that of the terminal.
deny contains "wrong_currency" if {
	input.route == "purchase"
	not object.get(input.body, "currency", "156") in grants.currencies
}

# A message over HTTP must be a purchase too.
deny contains "not_a_purchase" if {
	input.route == "purchase-over-http"
	not startswith(object.get(object.get(input.body, "fields", {}), "processing_code", ""), "00")
}
