package authz

default allow := false

allow if input.peer.spiffe == "spiffe://bank.test/teller"
