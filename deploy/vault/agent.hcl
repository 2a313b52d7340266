# Vault reaches Moat through files only: the agent renews them, Moat takes them by itself. Run it as
# a user that may write /etc/moat/pki and nothing else of Moat's.
vault { address = "https://vault.example:8200" }

auto_auth {
  method "approle" {
    config = {
      role_id_file_path                   = "/etc/vault-agent/role-id"
      secret_id_file_path                 = "/etc/vault-agent/secret-id"
      remove_secret_id_file_after_reading = false
    }
  }
}

template_config { static_secret_render_interval = "5m" }

# Certificate and key come from one template, so that they belong together. Moat reads them 500 ms
# after the last change, all or nothing: a pair that does not fit is refused and the former stays.
template {
  contents = <<EOT
{{ with pkiCert "pki_int/issue/moat" "common_name=gateway.bank.example" "uri_sans=spiffe://bank.example/gateway" "ttl=72h" }}
{{ .Cert }}{{ .CA }}
{{ .Key | writeToFile "/etc/moat/pki/tls.key" "moat" "moat" "0600" }}
{{ end }}
EOT
  destination = "/etc/moat/pki/tls.crt"
  perms       = "0644"
}

template {
  contents    = "{{ with secret \"pki_int/cert/ca_chain\" }}{{ .Data.certificate }}{{ end }}"
  destination = "/etc/moat/trust/ca.crt"
  perms       = "0644"
}
