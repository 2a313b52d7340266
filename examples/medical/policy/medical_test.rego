package medical

call(sub, route, patient, more) := object.union(
	{
		"route": route,
		"token": {"state": "valid", "sub": sub},
		"request": {"params": {"patient": patient}, "headers": {"x-emergency": ""}},
		"step_up": {"state": "none", "kind": "", "acr": "", "age_s": 4294967295, "key": ""},
	},
	more,
)

emergency := {"request": {"headers": {"x-emergency": "yes"}}}

test_a_doctor_reads_and_writes_in_her_ward if {
	"role" in allow with input as call("dr-li", "read-record", "p1", {})
	"role" in allow with input as call("dr-li", "write-record", "p1", {})
	not obligations with input as call("dr-li", "read-record", "p1", {})
}

test_a_nurse_reads_and_does_not_write if {
	"role" in allow with input as call("nurse-wu", "read-record", "p1", {})
	count(allow) == 0 with input as call("nurse-wu", "write-record", "p1", {})
}

test_billing_sees_no_identity if {
	obligations.mask == "without_identity" with input as call("billing-ma", "read-record", "p2", {})
}

test_another_ward_is_closed if {
	count(allow) == 0 with input as call("dr-li", "read-record", "p2", {})
}

emergency_proved := object.union(emergency, {"step_up": {"state": "satisfied", "kind": "person", "acr": "urn:hospital:badge-and-pin", "age_s": 4, "key": ""}})

test_in_an_emergency_a_doctor_is_asked_who_she_is if {
	some asked in challenge with input as call("dr-li", "read-record", "p2", emergency)
	asked.kind == "person"
}

test_then_she_reads_and_sees_no_identity if {
	count(challenge) == 0 with input as call("dr-li", "read-record", "p2", emergency_proved)
	"emergency" in allow with input as call("dr-li", "read-record", "p2", emergency_proved)
	obligations.mask == "without_identity" with input as call("dr-li", "read-record", "p2", emergency_proved)
}

test_in_an_emergency_nobody_writes if {
	count(allow) == 0 with input as call("dr-li", "write-record", "p2", emergency)
}

test_an_emergency_is_not_for_nurses if {
	count(allow) == 0 with input as call("nurse-wu", "read-record", "p2", emergency)
	count(challenge) == 0 with input as call("nurse-wu", "read-record", "p2", emergency)
}

test_two_duties_in_one_hand_are_denied if {
	"two_duties" in deny with input as call("dr-qi", "read-record", "p2", {})
	count(deny) == 0 with input as call("dr-li", "read-record", "p1", {})
}

test_who_has_left_is_denied if {
	"left" in deny with input as call("dr-he", "read-record", "p2", {})
}

test_without_a_token_nothing_is_allowed if {
	count(allow) == 0 with input as call("dr-li", "read-record", "p1", {"token": {"state": "none", "sub": ""}})
	count(allow) == 0 with input as call("", "read-record", "p1", {})
}
