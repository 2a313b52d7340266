# Medical records by roles (RBAC). Roles, permissions and wards are data (roles.json); the rules say
# how they are put together. In an emergency a doctor may read what is not her patient's record:
# after a fresh authentication, with everything masked that need not be seen, and on record.
package medical

# Whom a token names. Without a token nobody is anybody.
person := data.medical_people[input.token.sub] if input.token.state == "valid"

permissions contains permission if {
	some role in person.roles
	some permission in data.medical_roles[role]
}

wanted := data.medical_routes[input.route]

patient_ward := data.medical_patients[input.request.params.patient]

is_own_ward if patient_ward in person.wards

allow contains "role" if {
	wanted in permissions
	is_own_ward
}

# Breaking the glass: read only, and only who may read at all.
is_emergency if input.request.headers["x-emergency"] == "yes"

allow contains "emergency" if {
	wanted == "record:read"
	"record:emergency" in permissions
	is_emergency
}

challenge contains {"reason": "emergency", "kind": "person", "acr": ["urn:hospital:badge-and-pin"], "max_age_s": 60} if {
	is_emergency
	not is_own_ward
	"record:emergency" in permissions
	input.step_up.state != "satisfied"
}

# Duties that exclude each other: who prescribes does not dispense.
deny contains "two_duties" if {
	some pair in data.medical_exclusive
	every role in pair { role in person.roles }
}

deny contains "left" if person.left

# Outside one's own ward, and for roles that treat nobody, identities are masked.
obligations := {"mask": "without_identity"} if not is_own_ward

obligations := {"mask": "without_identity"} if {
	is_own_ward
	not "record:identity" in permissions
}
