package authz
allow if { some v in walk(input) }
other if { walk(input, [path, value]) }
