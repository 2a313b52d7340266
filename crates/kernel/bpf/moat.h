/*
 * What programs and user space say to each other. Every structure here has a mirror in
 * crates/kernel/src/layout.rs; a test compares the two through the objects' BTF. No padding that
 * is not named, so that nothing of the kernel's stack leaves by it.
 */
#ifndef MOAT_H
#define MOAT_H

/* Longest program name, in bytes, with its end. */
#define COMM_BYTES 16
/* Most entries of an allow-list. */
#define ALLOW_MAX 2048
/* Most destinations that are remembered. */
#define SEEN_MAX 1024
/* Longest DNS answer that is looked at, in bytes (RFC 1035, section 4.2.1). */
#define DNS_BYTES_MAX 512

/* Bits of an allow-list key in front of the address: protocol, nothing, port. */
#define ALLOW_KEY_HEAD_BITS 32

/* Key of an allow-list. IPv4 stands as IPv4-mapped IPv6; port 0 stands for every port. */
struct allow_key {
	__u32 prefix_bits;
	__u8 protocol;
	__u8 nothing;
	__u16 port; /* network order: the trie compares bits in the order of bytes */
	__u8 address[16];
};

/* A destination. */
struct destination {
	__u8 address[16];
	__u16 port; /* host order */
	__u8 protocol;
	__u8 nothing[5];
};

/* What came of the attempts to reach a destination. */
struct attempts {
	__u64 allowed;
	__u64 refused;
	__u64 last_ns;
};

/* Where an attempt was refused. */
enum egress_hook {
	HOOK_CONNECT = 1,
	HOOK_SENDMSG = 2,
	HOOK_PACKET = 3,
};

/* An attempt that was refused. */
struct egress_event {
	__u64 at_ns; /* monotonic clock */
	__u64 cgroup;
	__u32 pid;
	__u32 uid;
	__u8 address[16];
	__u16 port; /* host order */
	__u8 protocol;
	__u8 hook;
	__u8 nothing[4];
	char comm[COMM_BYTES];
};

/* A DNS answer as it came, for the names of what is refused. */
struct dns_event {
	__u64 at_ns;
	__u32 length;
	__u32 nothing;
	__u8 answer[DNS_BYTES_MAX];
};

/* Places in the array `egress_control`. */
enum egress_control_at {
	CONTROL_LIST = 0,   /* which allow-list is in force: 0 or 1 */
	CONTROL_OBSERVE = 1, /* 1: what would be refused passes, and is told all the same */
	CONTROL_PLACES = 2,
};

/* Places in the array `egress_counts`. */
enum egress_count_at {
	COUNT_ALLOWED = 0,
	COUNT_REFUSED = 1,
	COUNT_LOST = 2, /* of COUNT_REFUSED: no room for the event */
	COUNT_PLACES = 3,
};

/* Places in the array `egress_ledger`, which only user space writes. */
enum egress_ledger_at {
	LEDGER_RECORDED = 0, /* refusals that have a record of their own */
	LEDGER_LOST = 1,     /* of COUNT_LOST: those that a record speaks of */
	LEDGER_MISSED = 2,   /* others that a record speaks of: their reader ended before */
	LEDGER_PLACES = 3,
};

/* Longest part of a ClientHello that is copied, in bytes: a power of two. */
#define TLS_HELLO_BYTES 512

/* Key of the networks that are admitted. IPv4 stands as IPv4-mapped IPv6. */
struct admit_key {
	__u32 prefix_bits;
	__u8 address[16];
};

/* A connection towards a listener. */
struct flow {
	__u8 source[16];
	__u8 target[16];
	__u16 source_port; /* host order */
	__u16 port;        /* host order */
	__u8 nothing[4];
};

/* Longest options of a TCP header, in bytes (RFC 9293, section 3.1). */
#define TCP_OPTION_BYTES 40

/* What the SYN of a connection showed. */
struct flow_begin {
	__u64 at_ns; /* monotonic clock */
	__u16 window;
	__u8 ttl;
	__u8 option_bytes;
	__u8 nothing[4];
	__u8 options[TCP_OPTION_BYTES]; /* as they came */
};

/* A place for a connection that has said nothing yet. */
struct flow_slot {
	struct flow flow;
	struct flow_begin begin;
};

enum tls_kind {
	TLS_HELLO = 1,
	TLS_NOT_TLS = 2,
	TLS_NOT_ADMITTED = 3,
	TLS_TOO_FAST = 4,
};

/* The first thing that a connection said, or why it was dropped. */
struct tls_event {
	__u64 at_ns; /* monotonic clock */
	struct flow flow;
	struct flow_begin syn;
	__u8 kind;
	__u8 ttl; /* of this packet */
	__u16 window;
	__u16 version;
	__u16 record_bytes;
	__u8 record_type;
	__u8 is_partial;
	__u16 copied; /* how much of `hello` there is */
	__u32 payload_bytes;
	__u8 hello[TLS_HELLO_BYTES];
};

/* Places in the array `tls_control`. */
enum tls_control_at {
	TLS_CONTROL_ADMIT = 0,        /* 1: only networks in `tls_admit` */
	TLS_CONTROL_DROP_NOT_TLS = 1, /* 1: what is no TLS record is dropped */
	TLS_CONTROL_SYN_MAX = 2,      /* SYNs of one source in a second; 0: without bound */
	TLS_CONTROL_SEED = 3,         /* any number that nobody outside knows */
	TLS_CONTROL_PLACES = 4,
};

/* Places in the array `tls_counts`. */
enum tls_count_at {
	TLS_COUNT_HELLOS = 0,
	TLS_COUNT_NOT_TLS = 1,
	TLS_COUNT_NOT_ADMITTED = 2,
	TLS_COUNT_TOO_FAST = 3,
	TLS_COUNT_LOST = 4,
	TLS_COUNT_FRAGMENTS = 5,
	TLS_COUNT_UNREADABLE = 6,
	TLS_COUNT_PLACES = 7,
};

/* Most roles that are watched. */
#define ROLES_MAX 8
/* Longest path that is told, in bytes, with its end. */
#define PATH_BYTES 128

enum behaviour_kind {
	BEHAVIOUR_EXEC = 0,      /* executed a program */
	BEHAVIOUR_FORK = 1,      /* made a process */
	BEHAVIOUR_FORBIDDEN = 2, /* ended for a forbidden system call */
	BEHAVIOUR_OPEN = 3,      /* opened a path */
	BEHAVIOUR_REFUSED = 4,   /* was refused a system call: EPERM or EACCES */
	BEHAVIOUR_CAPABLE = 5,   /* was granted something for a capability */
	BEHAVIOUR_KINDS = 6,
};

/* Something that a role has no business doing. */
struct behaviour_event {
	__u64 at_ns; /* monotonic clock */
	__u32 pid;
	__u32 role;
	__u32 kind;
	__u32 detail; /* system call, or capability */
	char comm[COMM_BYTES];
	char path[PATH_BYTES];
};

/* Most threads that are watched, and most workers among them. */
#define LATENCY_THREADS_MAX 256
#define WORKERS_MAX 64

/*
 * What a worker of the gateway publishes in its own memory, in words of eight bytes; its mirror is
 * crates/model/src/window.rs. Programs read it while the worker's thread is the current one.
 */
#define WINDOW_MAGIC 0x6d6f61742d77696eULL
enum window_word {
	WINDOW_AT_MAGIC = 0,
	WINDOW_AT_HEAD = 1,    /* how many windows have ended ever */
	WINDOW_AT_STAGE = 2,   /* stage of the poll that is running, plus 1; 0: none */
	WINDOW_AT_TRACE = 3,   /* first half of the trace id of that call */
	WINDOW_AT_STARTED = 4, /* when that stage or poll began */
	WINDOW_HEAD_WORDS = 8,
};
/* Windows that wait in a worker's memory: a power of two. Words of each. */
#define WINDOWS_MAX 512
#define WINDOW_WORDS 16
/* Most windows that are taken at once. */
#define WINDOWS_AT_ONCE 64

enum latency_kind {
	LATENCY_WINDOW = 0,     /* a call has ended; of another form: struct latency_window */
	LATENCY_RUN_QUEUE = 1,  /* ready to run, and another was running */
	LATENCY_BUSY = 2,       /* running for long without a pause; detail: page faults meanwhile,
	                           those that read above bit 32 */
	LATENCY_FAULT = 3,      /* waiting for a page */
	LATENCY_BLOCKED = 4,    /* waiting in a system call that is not the loop's own; detail: which */
	LATENCY_DEVICE = 5,     /* a block device took long; detail: its number */
	LATENCY_RETRANSMIT = 6, /* a TCP segment was sent again; detail: ports, ours and theirs */
	LATENCY_STALL = 7,      /* running or blocked for longer than a stall: told while it lasts */
	LATENCY_KINDS = 8,
};

enum latency_role {
	LATENCY_WORKER = 0,
	LATENCY_AUDITOR = 1,
	LATENCY_NOBODY = 2,
};

/* Words of the stack of a thread that stands still. */
#define STACK_WORDS 192

/* Something that may have delayed a call. */
struct latency_event {
	__u32 kind;
	__u32 role;
	__u32 number; /* of the worker */
	__u32 tid;
	__u64 from_ns; /* monotonic clock */
	__u64 to_ns;
	__u64 detail;
	__u64 trace; /* of the call that was being polled */
	__u32 stage; /* plus 1; 0: none */
	__u32 nothing;
};

/* The same for a stall, with what the thread's stack has. */
struct latency_stall {
	struct latency_event event;
	__u64 instruction;
	__u64 stack[STACK_WORDS];
};

/* A call, as its worker has written it. */
struct latency_window {
	__u32 kind;
	__u32 number;
	__u64 words[WINDOW_WORDS];
};

/* What a thread does. */
enum latency_doing {
	DOING_RUN = 0,
	DOING_READY = 1,
	DOING_FAULT = 2,
	DOING_IDLE = 3,
	DOING_BLOCKED = 4,
	DOING_STATES = 5,
};

/* A thread that is watched. */
struct latency_thread {
	__u64 since_ns; /* of what it does */
	__u64 woken_ns;
	__u64 faults_before; /* page faults when it began to run, ever: without and with reading */
	__u64 reads_before;
	__u64 taken;        /* windows */
	__u64 sums_ns[DOING_STATES];
	__u32 doing;
	__u32 role;
	__u32 number;
	__u32 call; /* system call that it waits in */
	__u64 stalled_ns; /* `started_ns` of a stall that was told */
	__u64 started_ns; /* when the stage or poll began that it is at */
	__u64 trace;
	__u32 stage;
	__u32 nothing;
	__u64 instruction;
	__u64 stack[STACK_WORDS];
};

/* Places in the array `latency_control`. */
enum latency_control_at {
	LATENCY_CONTROL_RUN_QUEUE = 0, /* shortest wait that is told, in ns, and so on */
	LATENCY_CONTROL_BUSY = 1,
	LATENCY_CONTROL_FAULT = 2,
	LATENCY_CONTROL_BLOCKED = 3,
	LATENCY_CONTROL_DEVICE = 4,
	LATENCY_CONTROL_STALL = 5,
	LATENCY_CONTROL_FAULTS = 6, /* fewest page faults of a run that is told for them */
	LATENCY_CONTROL_PLACES = 7,
};

/* Places in the array `latency_counts`. */
enum latency_count_at {
	LATENCY_COUNT_WINDOWS = 0,
	LATENCY_COUNT_WINDOWS_LOST = 1, /* overwritten before they were taken, or no room */
	LATENCY_COUNT_EVENTS = 2,
	LATENCY_COUNT_EVENTS_LOST = 3,
	LATENCY_COUNT_DEVICE_NS = 4,
	LATENCY_COUNT_DEVICE_REQUESTS = 5,
	LATENCY_COUNT_RETRANSMITS = 6,
	LATENCY_COUNT_PLACES = 7,
};

#endif
