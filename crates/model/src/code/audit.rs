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
    DAMAGED = "MOAT-A020", 0, Operator,
        en: "Bytes of the log are damaged", "Keep the file as evidence and compare it with a copy; the finding names its place.",
        zh: "日志字节已损坏", "将该文件作为证据保留并与副本比对；检查结果指明位置。";
    CHAIN_BROKEN = "MOAT-A021", 0, Operator,
        en: "The chain of the log is broken", "What stands there is not what was written before it; compare with a copy.",
        zh: "日志链断裂", "该处内容与其前序写入不符；请与副本比对。";
    RECORDS_MISSING = "MOAT-A022", 0, Operator,
        en: "Records or segments are missing, repeated or out of order", "Restore the missing segments from a copy.",
        zh: "记录或段缺失、重复或乱序", "请从副本恢复缺失的段。";
    LOG_CUT = "MOAT-A023", 0, Operator,
        en: "The log ends before what was made durable", "Its tail was removed or rolled back; restore it from a copy.",
        zh: "日志在已落盘内容之前终止", "其尾部被删除或回滚；请从副本恢复。";
    FOREIGN = "MOAT-A024", 0, Operator,
        en: "A segment or record belongs to another log or place", "Remove nothing; find out who put it there.",
        zh: "段或记录属于其他日志或位置", "不要删除；请查明来源。";
    TWO_HISTORIES = "MOAT-A025", 0, Operator,
        en: "One sequence number has two different records", "The log was written twice; compare it with a copy.",
        zh: "同一序号存在两条不同记录", "日志被写过两次；请与副本比对。";
    MALFORMED_RECORD = "MOAT-A026", 0, Operator,
        en: "A record in the log is not canonical", "No auditor writes such a record; compare it with a copy.",
        zh: "日志中有非规范记录", "审计进程不会写出此类记录；请与副本比对。";
    UNPAIRED_INTENT = "MOAT-A027", 0, Operator,
        en: "An intent has no outcome", "It is under way, or the gateway went away; a restart of the auditor appends UNKNOWN.",
        zh: "某意图没有结果", "该调用仍在进行，或网关已离开；审计进程重启时会追加 UNKNOWN。";
    TIME_STEPPED = "MOAT-A028", 0, Operator,
        en: "The time in the log steps back", "The auditor never writes that; compare with a copy.",
        zh: "日志中的时间倒退", "审计进程不会如此写入；请与副本比对。";
    OTHER_LOG = "MOAT-A029", 0, Operator,
        en: "The directory holds another log", "Point `audit.dir` at the right directory, or at an empty one.",
        zh: "该目录属于另一日志", "将 `audit.dir` 指向正确的目录或空目录。";
    NOT_SIGNED_AGAIN = "MOAT-A030", 0, Operator,
        en: "The log does not continue what was signed of it, so nothing more is signed", "Recording goes on unsigned. Find out who put back or changed the folder; restore it from a copy, or begin a log with another origin. If the files that say what was signed are only lost, `moat audit resume-signing` begins anew, on record.",
        zh: "日志并非已签名内容的延续，因此不再签名", "记录仍在继续，但不签名。请查明何人回退或更改了该目录；从副本恢复，或以另一 origin 开始新日志。若仅丢失了记载已签名内容的文件，可用 `moat audit resume-signing` 重新开始签名，该操作会记入日志。";
    CANNOT_SIGN = "MOAT-A031", 0, Operator,
        en: "The key of the log cannot be used", "Records stay durable and unsigned. Make a key with `moat audit keygen`, name it in `audit.keys`, chmod 600.",
        zh: "日志密钥无法使用", "记录照常落盘但未签名。用 `moat audit keygen` 生成密钥，在 `audit.keys` 中引用，并 chmod 600。";
    TREE_BEHIND = "MOAT-A032", 0, Operator,
        en: "The tiles or the checkpoint cannot be written", "Records stay durable and unsigned; the auditor tries again. Look at the audit volume.",
        zh: "无法写入 tile 或 checkpoint", "记录照常落盘但未签名；审计进程会重试。请检查审计卷。";
    NOT_WHAT_WAS_SIGNED = "MOAT-A033", 0, Operator,
        en: "A record is not the one that was signed", "Keep the folder as evidence; the signed checkpoint and the tiles convict it.",
        zh: "记录与已签名者不符", "将该目录作为证据保留；已签名的 checkpoint 与 tile 可证明篡改。";
    BAD_TILE = "MOAT-A034", 0, Operator,
        en: "A tile is missing or not that of the records", "The records are as they were signed. Restart the auditor: it makes tiles anew that are missing or of another length. Remove one that is wrong before.",
        zh: "tile 缺失或与记录不符", "记录与签名一致。重启审计进程即可重建缺失或长度不符的 tile；内容有误的 tile 请先删除。";
    BAD_CHECKPOINT = "MOAT-A035", 0, Operator,
        en: "A checkpoint is missing, malformed or not signed by whom it must be", "Compare the key or the policy with what you were given; keep the file as evidence.",
        zh: "checkpoint 缺失、格式错误或未由应签者签名", "请核对密钥或策略文件；将该文件作为证据保留。";
    UNWITNESSED = "MOAT-A036", 503, Operator,
        en: "Too few witnesses have confirmed the log within the configured time, so nothing new is begun", "Records go on; `moat status` names the witnesses that do not answer. The gateway recovers by itself when enough of them do. The bound is `audit.unwitnessed_ms_max`.",
        zh: "在所配置的时限内确认日志的见证人不足，因此不受理新的调用", "记录照常进行；`moat status` 列出未应答的见证人。见证人足够后网关自行恢复。时限为 `audit.unwitnessed_ms_max`。";
    WITNESS_DISAGREES = "MOAT-A037", 0, Operator,
        en: "A witness does not confirm what it was asked, or says other than the others", "Either the log has two histories or the witness is wrong: compare its last checkpoint by `moat-verify log --checkpoint`, and keep both.",
        zh: "某见证人未确认所请求的内容，或与其他见证人说法不一", "或日志存在两种历史，或该见证人有误：用 `moat-verify log --checkpoint` 与其最后的 checkpoint 比对，并保留双方。";
    UNSIGNED_TAIL = "MOAT-A040", 0, Operator,
        en: "Too many records at the end of the log are under no accepted checkpoint", "They are chained and not signed: whoever can write the folder may have written them. A log that runs is signed within seconds: look at `moat status`. `--unsigned-max` allows more.",
        zh: "日志末尾未被可接受的 checkpoint 覆盖的记录过多", "这些记录仅有链式散列而未签名：能写入该目录者即可伪造。运行中的日志数秒内即会签名，请查看 `moat status`。可用 `--unsigned-max` 放宽。";
    REMOVED_UNSAID = "MOAT-A041", 0, Operator,
        en: "Records are not there, and no record says that retention removed them", "Restore the segments from a copy or a mirror; find out who removed them.",
        zh: "记录缺失，且没有记录表明系按保留期删除", "请从副本或镜像恢复这些段，并查明由何人删除。";
    CANNOT_SEAL = "MOAT-A042", 0, Operator,
        en: "Old segments cannot be packed or removed", "Records are not touched by that. Look at the audit volume; what is wrong stands beside it.",
        zh: "无法压缩或删除旧段", "记录本身不受影响。请检查审计卷；具体原因见旁注。";
    FROZEN = "MOAT-A043", 503, Operator,
        en: "Two histories of the log were signed, so nothing new is begun", "The file `frozen` in the log's folder names the proofs. Find out who signed the other history; begin a log with another origin and other keys. Remove the file only if it was put there in error.",
        zh: "日志存在两份均已签名的历史，因此不受理新的调用", "日志目录中的 `frozen` 文件指明证据所在。请查明另一历史由何人签名；以新的 origin 与新密钥开始新日志。仅当该文件系误放时方可删除。";
    BAD_STAMP = "MOAT-A044", 0, Operator,
        en: "A time stamp is none, is over something else, or is signed by nobody who may", "Compare the authority's certificate; ask for another token over the present checkpoint.",
        zh: "时间戳无效、所盖内容不符或签名者无权签发", "请核对时间戳机构的证书；对当前 checkpoint 重新申请时间戳。";
    TIME_BRACKET = "MOAT-A045", 0, Operator,
        en: "The time in a record contradicts the time stamps around it", "The clock of the machine was wrong, or was set wrong on purpose; the tokens bound when the record was made.",
        zh: "记录中的时间与前后的时间戳矛盾", "机器时钟有误或被人为调整；时间戳界定了记录实际产生的时间。";
}

/// Why a record could not be made now and may be made later: the same try is worth repeating.
pub const PASSING: [&super::Code; 6] =
    [&COMMIT_DEADLINE, &AUDITOR_AWAY, &DISK_FULL, &WRITE_FAILED, &QUEUE_FULL, &UNWITNESSED];
