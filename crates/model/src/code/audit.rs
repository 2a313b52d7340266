//! Codes of the audit log (area A).

super::codes! {
    COMMIT_DEADLINE = "MOAT-A001", 503, Operator,
        en: "The record could not be made durable in time", "Look at the audit volume and the auditor role with `moat status`; the call may be repeated.",
        zh: "审计记录未能在限期内落盘", "用 `moat status` 检查审计卷与 auditor 进程；可重试该调用。";
    AUDITOR_AWAY = "MOAT-A002", 503, Operator,
        en: "The auditor is away, so nothing is answered", "The supervisor restarts it; if that lasts, read the supervisor's log.",
        zh: "审计进程不在，因此不作任何应答", "监督进程会将其重启；若持续如此，请查看监督进程日志。";
    DISK_FULL = "MOAT-A003", 503, Operator,
        en: "The audit volume is full", "Free space on the audit volume; the gateway recovers by itself.",
        zh: "审计卷已满", "在审计卷上腾出空间；网关会自行恢复。";
    WRITE_FAILED = "MOAT-A004", 503, Operator,
        en: "Writing the audit log failed", "Check the volume; the failed segment is closed and a new one is begun.",
        zh: "写审计日志失败", "检查存储卷；失败的段已关闭，并会启用新段。";
    QUEUE_FULL = "MOAT-A005", 503, Operator,
        en: "Too many records wait to become durable", "The audit volume is slower than the load; repeat the call later.",
        zh: "等待落盘的审计记录过多", "审计卷慢于负载；请稍后重试。";
    LEAF_TOO_LONG = "MOAT-A006", 503, Moat,
        en: "The record is longer than a leaf may be", "Declare fewer audited fields on the route.",
        zh: "记录超过叶的最大长度", "减少该路由声明的审计字段。";
    BAD_RECORD = "MOAT-A007", 503, Moat,
        en: "The record contradicts itself and was not taken", "Report it with the trace id; nothing was answered.",
        zh: "审计记录自相矛盾，未被接受", "请附 trace id 上报；未作任何应答。";
    TAMPERED = "MOAT-A010", 0, Operator,
        en: "The log is not what was written", "Keep the directory as evidence; compare it with a copy.",
        zh: "日志与写入时不符", "将该目录作为证据保留，并与副本比对。";
    LOG_LOCKED = "MOAT-A011", 0, Operator,
        en: "Another process holds the log directory", "Stop the other auditor first.",
        zh: "日志目录被另一进程占用", "先停止另一个审计进程。";
    BAD_CODE = "MOAT-A012", 0, Peer,
        en: "The text is no canonical audit code", "Compare it with the grammar in docs/record.md.",
        zh: "该文本不是规范的审计代码", "请对照 docs/record.md 中的文法。";
    CORRUPT = "MOAT-A013", 0, Operator,
        en: "The log is damaged where no crash can damage it", "The auditor refuses to go on. Restore the directory from a copy; never delete the damaged one.",
        zh: "日志在崩溃不可能触及之处损坏", "审计进程拒绝继续。请从副本恢复该目录；切勿删除损坏者。";
}
