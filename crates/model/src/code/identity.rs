//! Codes of identities (area I). Source: SPIFFE X.509-SVID.

super::codes! {
    NO_SPIFFE = "MOAT-I001", 403, Peer,
        en: "The certificate names no SPIFFE id", "Issue a certificate with exactly one URI name such as spiffe://bank.test/teller.",
        zh: "证书中没有 SPIFFE ID", "签发恰好含一个形如 spiffe://bank.test/teller 的 URI 名称的证书。";
    TWO_SPIFFE = "MOAT-I002", 403, Peer,
        en: "The certificate names more than one URI", "Issue a certificate with exactly one SPIFFE id (X.509-SVID §2).",
        zh: "证书中有不止一个 URI 名称", "签发恰好含一个 SPIFFE ID 的证书（X.509-SVID §2）。";
    BAD_SPIFFE = "MOAT-I003", 403, Peer,
        en: "The certificate's URI is no well-formed SPIFFE id", "Write spiffe://trust-domain/path in lower case, without query, port or empty segments.",
        zh: "证书中的 URI 不是规范的 SPIFFE ID", "写作 spiffe://信任域/路径，小写，无查询、端口或空段。";
    TRUST_DOMAIN = "MOAT-I004", 403, Peer,
        en: "The SPIFFE id belongs to another trust domain", "Use a certificate of the listener's trust domain.",
        zh: "SPIFFE ID 属于其他信任域", "请使用监听器信任域内的证书。";
    KEY_USAGE = "MOAT-I007", 403, Peer,
        en: "The certificate's key is not for signing", "Use the certificate for signatures: its key usage must have digitalSignature, and neither keyCertSign nor cRLSign.",
        zh: "证书密钥不用于签名", "请使用签名证书：密钥用法须含 digitalSignature，且不得含 keyCertSign 或 cRLSign。";
    EXPIRED = "MOAT-I006", 403, Peer,
        en: "The caller's certificate has expired since the connection was made", "Renew the certificate and connect anew.",
        zh: "调用方证书在连接建立后已过期", "请更新证书后重新连接。";
    CUT_REVOKED = "MOAT-I020", 403, Peer,
        en: "The caller's certificate was revoked since the connection was made", "Connect anew with another certificate.",
        zh: "调用方证书在连接建立后被吊销", "请换用其他证书重新连接。";
    CUT_UNTRUSTED = "MOAT-I021", 403, Peer,
        en: "The caller's authority, or its group, is no longer trusted here", "Connect anew with a certificate of the authorities that are trusted now.",
        zh: "调用方的证书机构或其分组已不再受信任", "请用现受信任机构签发的证书重新连接。";
    CUT_UNKNOWN = "MOAT-I022", 403, Operator,
        en: "No current list says any more whether the caller's certificate was revoked", "Fetch the current list of its authority and reload; its callers are refused until then.",
        zh: "已没有现行列表说明调用方证书是否被吊销", "请获取其机构的最新吊销列表并重新加载；在此之前拒绝其调用方。";
    UNREADABLE = "MOAT-I005", 403, Peer,
        en: "The certificate cannot be read as strictly as needed", "Issue it anew with a standard tool.",
        zh: "证书无法按要求严格解析", "请用标准工具重新签发。";
}
