# Payments by attributes (ABAC): who pays, how much, to whom, at what hour, from what device. The
# rules state conditions; grants and thresholds are data (limits.json). Amounts are minor units.
package payment

# What a caller may do at all. Unknown callers have no grant, so nothing below is true for them.
grant := data.payment_grants[input.peer.spiffe]

tier := data.payment_tiers[grant.tier]

is_transfer if input.route == "transfer"

# Reads: the caller's own branch.
allow contains "reads_own_branch" if {
	input.route == "read-account"
	input.request.params.branch == grant.branch
}

# Transfers: within the tier of the caller, in an open environment.
allow contains "within_tier" if {
	is_transfer
	input.env == grant.env
	input.body.amount <= tier.most
}

deny contains "not_positive" if {
	is_transfer
	input.body.amount <= 0
}

deny contains "over_tier" if {
	is_transfer
	input.body.amount > tier.most
}

# An account on the list of blocked ones is never paid.
deny contains "blocked_account" if {
	is_transfer
	input.body.to.account in data.payment_blocked
}

# Whoever gave a wrong answer to a challenge is not asked again for a large amount.
deny contains "wrong_proof" if {
	is_transfer
	input.step_up.state == "failed"
	input.body.amount > tier.step_up_above
}

# Large amounts: the machine signs with a key that cannot be copied, within a minute.
challenge contains {"reason": "large_amount", "kind": "machine", "key": ["hsm", "tpm"]} if {
	is_transfer
	input.body.amount > tier.step_up_above
	not proved_by_hardware
}

proved_by_hardware if {
	input.step_up.state == "satisfied"
	input.step_up.key in {"hsm", "tpm"}
	input.step_up.age_s < 60
}

# At night a person must have been authenticated with two factors in the last five minutes.
challenge contains {"reason": "at_night", "kind": "person", "acr": ["urn:bank:two-factors"], "max_age_s": 300} if {
	is_transfer
	is_night
	not proved_by_person
}

proved_by_person if {
	input.step_up.state == "satisfied"
	input.step_up.acr == "urn:bank:two-factors"
}

# 22:00 to 06:00 in Beijing (UTC+8), from the time of the input: no rule reads a clock.
hour := floor(((input.now_ms + 28800000) % 86400000) / 3600000)

is_night if hour >= 22

is_night if hour < 6

# No more than the tier's daily sum, however it is cut into transfers.
obligations contains {"limit": {
	"name": "daily",
	"cost": input.body.amount,
	"most": tier.daily,
	"per_ms": 86400000,
}} if {
	is_transfer
	input.body.amount > 0
}

# Other branches' clerks see accounts masked.
obligations contains {"mask": "strict"} if {
	input.route == "read-account"
	grant.role == "clerk"
}
