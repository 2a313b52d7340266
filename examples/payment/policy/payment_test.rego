package payment

# 12:00 in Beijing on 2026-03-02.
noon_ms := 1772424000000

night_ms := noon_ms + (11 * 3600000)

transfer(spiffe, amount, more) := object.union(
	{
		"now_ms": noon_ms,
		"route": "transfer",
		"env": "prod",
		"peer": {"spiffe": spiffe},
		"body": {"amount": amount, "to": {"account": "1002"}},
		"step_up": {"state": "none", "kind": "", "acr": "", "age_s": 4294967295, "key": ""},
	},
	more,
)

teller := "spiffe://bank.test/teller"

by_hsm := {"step_up": {"state": "satisfied", "kind": "machine", "acr": "", "age_s": 3, "key": "hsm"}}

test_a_small_transfer_is_allowed if {
	"within_tier" in allow with input as transfer(teller, 1000000, {})
	count(deny) == 0 with input as transfer(teller, 1000000, {})
	count(challenge) == 0 with input as transfer(teller, 1000000, {})
}

test_a_large_one_is_challenged_until_hardware_has_signed if {
	some asked in challenge with input as transfer(teller, 1000001, {})
	asked.reason == "large_amount"
	count(challenge) == 0 with input as transfer(teller, 1000001, by_hsm)
}

test_a_key_in_a_file_is_not_enough if {
	by_file := {"step_up": {"state": "satisfied", "kind": "machine", "acr": "", "age_s": 3, "key": "file"}}
	count(challenge) == 1 with input as transfer(teller, 1000001, by_file)
}

test_nor_is_an_old_proof if {
	old := {"step_up": {"state": "satisfied", "kind": "machine", "acr": "", "age_s": 60, "key": "hsm"}}
	count(challenge) == 1 with input as transfer(teller, 1000001, old)
}

test_a_wrong_answer_denies_large_amounts_only if {
	wrong := {"step_up": {"state": "failed", "kind": "", "acr": "", "age_s": 4294967295, "key": ""}}
	"wrong_proof" in deny with input as transfer(teller, 1000001, wrong)
	not "wrong_proof" in deny with input as transfer(teller, 1000, wrong)
}

at_night := {"now_ms": night_ms}

at_night_proved := {
	"now_ms": night_ms,
	"step_up": {"state": "satisfied", "kind": "person", "acr": "urn:bank:two-factors", "age_s": 9, "key": ""},
}

test_at_night_a_person_is_asked_for if {
	some asked in challenge with input as transfer(teller, 1000, at_night)
	asked.reason == "at_night"
}

test_at_night_a_person_that_was_authenticated_is_not_asked_again if {
	count(challenge) == 0 with input as transfer(teller, 1000, at_night_proved)
}

test_at_night_a_large_amount_needs_both if {
	count(challenge) == 2 with input as transfer(teller, 1000001, {"now_ms": night_ms})
}

test_over_the_tier_is_denied if {
	"over_tier" in deny with input as transfer(teller, 5000001, by_hsm)
	"not_positive" in deny with input as transfer(teller, 0, {})
	"not_positive" in deny with input as transfer(teller, -5, {})
}

test_a_blocked_account_is_never_paid if {
	blocked := {"body": {"amount": 1, "to": {"account": "6666"}}}
	"blocked_account" in deny with input as transfer(teller, 1, blocked)
}

test_a_stranger_is_not_allowed if {
	count(allow) == 0 with input as transfer("spiffe://bank.test/nobody", 1, {})
}

test_another_environment_is_not_allowed if {
	count(allow) == 0 with input as transfer(teller, 1, {"env": "test"})
}

test_a_transfer_counts_against_the_day if {
	some owed in obligations with input as transfer(teller, 700, {})
	owed.limit.cost == 700
	owed.limit.most == 20000000
}

test_a_clerk_reads_its_own_branch_masked if {
	own := {"route": "read-account", "peer": {"spiffe": teller}, "request": {"params": {"branch": "12"}}}
	"reads_own_branch" in allow with input as own
	{"mask": "strict"} in obligations with input as own
	other := {"route": "read-account", "peer": {"spiffe": teller}, "request": {"params": {"branch": "13"}}}
	count(allow) == 0 with input as other
}
