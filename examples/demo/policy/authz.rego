# Who may do what with accounts. Conditions are rules; grants and limits are data (limits.json).
package authz

default allow := false

grants := data.grants[input.peer.spiffe]

# Reads need a grant for reading.
allow if {
	input.route in {"read-account", "grpc-read", "grpc-watch"}
	"read" in grants.may
}

# Transfers need a grant for transfers.
allow if {
	input.route == "transfer"
	"transfer" in grants.may
}

# A limit that is not set is a limit of nothing.
limit := object.get(grants, "transfer_limit", 0)

deny contains "over_limit" if {
	input.route == "transfer"
	input.body.amount > limit
}

deny contains "not_positive" if {
	input.route == "transfer"
	input.body.amount <= 0
}

# Card messages need a grant for cards, and purchases have a limit of their own.
allow if {
	input.route in {"card-purchase", "card-purchase-1993", "card-reversal"}
	"cards" in grants.may
}

deny contains "over_card_limit" if {
	input.route in {"card-purchase", "card-purchase-1993"}
	input.body.amount > object.get(grants, "card_limit", 0)
}

# Large transfers: the caller's machine signs a nonce with its second key, within a minute.
challenge contains {"reason": "large_transfer", "kind": "machine", "key": ["hsm", "tpm", "file"]} if {
	input.route == "transfer"
	input.body.amount > object.get(grants, "step_up_above", 0)
	input.step_up.state != "satisfied"
}
