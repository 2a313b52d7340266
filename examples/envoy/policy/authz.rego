# Tellers may read and pay; a payment over 1,000.00 needs their second key.
package authz

default allow := false

allow if input.peer.spiffe == "spiffe://bank.test/teller"

deny contains "refused" if input.request.params.rest == "refused"

challenge contains {"reason": "large", "kind": "machine", "key": ["hsm"]} if {
	input.route == "pay"
	input.body.amount > 100000
	input.step_up.state != "satisfied"
}
