package authz
# http.send(
x := "time.now_ns(\"" 
y := `trace(`
