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
	BEHAVIOUR_KINDS = 3,
};

/* Something that a role has no business doing. */
struct behaviour_event {
	__u64 at_ns; /* monotonic clock */
	__u32 pid;
	__u32 role;
	__u32 kind;
	__u32 nothing;
	char comm[COMM_BYTES];
	char path[PATH_BYTES];
};

#endif
