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
    MIXED = "MOAT-T009", 0, Peer,
        en: "The caller offers national cryptography in part", "Offer suite, group curveSM2 and signature scheme sm2sig_sm3 together (RFC 8998), or an international suite.",
        zh: "调用方只提供了部分国密算法", "请同时提供国密套件、curveSM2 群与 sm2sig_sm3 签名方案（RFC 8998），或提供国际套件。";
    NATIONAL_ONLY = "MOAT-T010", 0, Peer,
        en: "The listener takes national cryptography only", "Call with TLS_SM4_GCM_SM3, curveSM2 and an SM2 certificate (RFC 8998).",
        zh: "该监听器只接受国密算法", "请使用 TLS_SM4_GCM_SM3、curveSM2 与 SM2 证书调用（RFC 8998）。";
    BAD_SIGNATURE = "MOAT-T011", 0, Peer,
        en: "A signature of the caller, or in its chain, is wrong", "Use the key of the certificate. With SM2, sign the handshake as TLSv1.3+GM+Cipher+Suite and certificates as 1234567812345678.",
        zh: "调用方的签名或其证书链中的签名有误", "请使用与证书相配的私钥。SM2 握手签名的标识为 TLSv1.3+GM+Cipher+Suite，证书为 1234567812345678。";
    FOREIGN = "MOAT-T012", 0, Peer,
        en: "The caller's chain has a key or signature that this connection does not take", "With a national suite every certificate is SM2 with SM3; with another, none is.",
        zh: "调用方证书链含有此连接不接受的密钥或签名算法", "国密套件下每张证书均须为 SM2 与 SM3；其他套件下均不得为 SM2。";
    KEY_SHARE = "MOAT-T013", 0, Peer,
        en: "The caller's key share is wrong", "Send a point of the group that is named with it, in its one encoding.",
        zh: "调用方的密钥共享值有误", "请发送所声明群中的点，并使用其唯一编码。";
    CHAIN = "MOAT-T014", 0, Peer,
        en: "The caller shows too many certificates", "Show the leaf and the authorities between it and the root: at most 8 certificates and 32 KiB.",
        zh: "调用方出示的证书过多", "请只出示叶证书及其与根之间的机构证书：至多 8 张、32 KiB。";
    REVOKED = "MOAT-T015", 0, Peer,
        en: "The caller's certificate, or an authority's in its chain, was revoked", "Get a new certificate; this one will not be taken again.",
        zh: "调用方证书或其链中的机构证书已被吊销", "请获取新证书；该证书不会再被接受。";
    REVOCATION_UNKNOWN = "MOAT-T016", 0, Operator,
        en: "Nothing says whether the caller's certificate was revoked", "Name the list of its issuer under `crls`, or of every authority below the root; `revocation: leaf` asks for that of the caller's issuer alone.",
        zh: "无从得知调用方证书是否已被吊销", "请在 `crls` 中列出其签发者的吊销列表，以及根以下各机构的列表；`revocation: leaf` 只要求调用方签发者的列表。";
    REVOCATION_STALE = "MOAT-T017", 0, Operator,
        en: "The list of revoked certificates of the caller's authority is out of date", "Fetch the current list and reload; callers of this authority are refused until then.",
        zh: "调用方证书机构的吊销列表已过期", "请获取最新列表并重新加载；在此之前拒绝该机构的调用方。";
    SERVER_NAME = "MOAT-T018", 0, Peer,
        en: "The caller names a server that is not served here", "Call one of the names under `server_names`, or give the listener a group without any.",
        zh: "调用方所指名的服务器不在此处", "请使用 `server_names` 中的名称，或为监听器配置一个不限名称的分组。";
    OWN_KEY = "MOAT-T020", 0, Operator,
        en: "A certificate and its key cannot be used", "Give a PEM certificate chain and the matching PKCS#8 key.",
        zh: "证书与私钥不可用", "请给出 PEM 证书链与相配的 PKCS#8 私钥。";
    NO_TRUST = "MOAT-T021", 0, Operator,
        en: "A trust file holds no usable authority", "Give a PEM file with at least one CA certificate.",
        zh: "信任文件中没有可用的证书机构", "请给出至少含一张 CA 证书的 PEM 文件。";
    IDENTITIES = "MOAT-T022", 0, Operator,
        en: "The identities do not fit together or the setting `national`", "Give one identity, or one international and one SM2; `only` needs the SM2 one, `off` the other.",
        zh: "所给身份彼此或与 `national` 设置不符", "请给出一个身份，或国际与 SM2 各一个；`only` 需要 SM2 身份，`off` 需要国际身份。";
    REVOCATION_LIST = "MOAT-T023", 0, Operator,
        en: "A list of revoked certificates cannot be used", "Give whole X.509 CRLs (RFC 5280) with a number and a next update, in DER or PEM; delta and partitioned lists are not taken.",
        zh: "吊销列表不可用", "请给出完整的 X.509 CRL（RFC 5280），含编号与下次更新时间，DER 或 PEM；不接受增量或分区列表。";
    OWN_STAPLE = "MOAT-T025", 0, Operator,
        en: "The OCSP response to be stapled cannot be used", "Give the DER response of the certificate's own issuer or its responder, and the issuer in the certificate file; `moat ca ocsp` makes one.",
        zh: "待装订的 OCSP 应答不可用", "请给出证书签发者或其应答者签发的 DER 应答，证书文件中须含签发者；`moat ca ocsp` 可生成。";
    OWN_EXPIRED = "MOAT-T026", 0, Operator,
        en: "The gateway's own certificate has expired", "Renew it; with `moat svid` see why the agent gives no new one. Callers are let in again by itself then.",
        zh: "网关自身的证书已过期", "请更新证书；若使用 `moat svid`，请查明代理为何未提供新证书。更新后将自动恢复接受调用方。";
    REVOCATION_BACK = "MOAT-T024", 0, Operator,
        en: "A list of revoked certificates is older than the one in force", "Fetch the current list: its number must not go back.",
        zh: "吊销列表比现行列表更旧", "请获取最新列表：编号不得回退。";
    FEW_LOGS = "MOAT-T028", 0, Peer,
        en: "Too few logs have signed the caller's certificate", "Use a certificate with timestamps of enough of the logs under `transparency`.",
        zh: "签署调用方证书的透明日志数量不足", "请使用由 `transparency` 所列日志中足够数量签署过的证书。";
    LOG_KEY = "MOAT-T027", 0, Operator,
        en: "The keys of certificate logs do not do", "Name one PUBLIC KEY in PEM for each log under `transparency.logs`, and at most as many under `needed`.",
        zh: "证书透明日志的密钥不可用", "请在 `transparency.logs` 中为每个日志列出一个 PEM 格式的 PUBLIC KEY，且 `needed` 不得多于其数量。";
}
