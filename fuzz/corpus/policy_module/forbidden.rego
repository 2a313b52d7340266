package authz
allow if { http.send({"url": "http://x"}) }
