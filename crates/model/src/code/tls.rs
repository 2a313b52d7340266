//! Codes of the TLS handshake (area T). Source: RFC 8446.

super::codes! {
    NO_CERTIFICATE = "MOAT-T001", 0, Peer,
        en: "The caller showed no certificate", "Call with a client certificate; there is no other way in.",
        zh: "调用方未出示证书", "请携带客户端证书调用；别无他途。";
    EXPIRED = "MOAT-T002", 0, Peer,
        en: "The caller's certificate has expired", "Renew the certificate.",
        zh: "调用方证书已过期", "请更新证书。";
    NOT_YET_VALID = "MOAT-T003", 0, Peer,
        en: "The caller's certificate is not valid yet", "Check the clocks of both machines.",
        zh: "调用方证书尚未生效", "请检查双方机器的时钟。";
    UNKNOWN_ISSUER = "MOAT-T004", 0, Peer,
        en: "The caller's certificate was issued by nobody trusted here", "Use a certificate of the listener's authorities.",
        zh: "调用方证书的签发者不受信任", "请使用监听器所信任机构签发的证书。";
    BAD_CERTIFICATE = "MOAT-T005", 0, Peer,
        en: "The caller's certificate or its signature is wrong", "Issue the certificate anew with client authentication allowed.",
        zh: "调用方证书或其签名有误", "请重新签发允许客户端认证的证书。";
    PROTOCOL = "MOAT-T006", 0, Peer,
        en: "The handshake failed", "Speak TLS 1.3 with a suite and group that the listener offers.",
        zh: "握手失败", "请使用 TLS 1.3 及监听器提供的套件与群。";
    SLOW = "MOAT-T007", 0, Peer,
        en: "The handshake did not end in time", "Finish the handshake without delay.",
        zh: "握手未按时完成", "请及时完成握手。";
    BROKEN = "MOAT-T008", 0, Peer,
        en: "The connection ended during the handshake", "Check the network between caller and gateway.",
        zh: "握手期间连接中断", "请检查调用方与网关之间的网络。";
    OWN_KEY = "MOAT-T020", 0, Operator,
        en: "A certificate and its key cannot be used", "Give a PEM certificate chain and the matching PKCS#8 key.",
        zh: "证书与私钥不可用", "请给出 PEM 证书链与相配的 PKCS#8 私钥。";
    NO_TRUST = "MOAT-T021", 0, Operator,
        en: "A trust file holds no usable authority", "Give a PEM file with at least one CA certificate.",
        zh: "信任文件中没有可用的证书机构", "请给出至少含一张 CA 证书的 PEM 文件。";
}
