/*
 * The first thing that a connection to a listener says, seen at the network card: TLS record header,
 * ClientHello, and what only the wire shows (time to live, window, TCP options, times). It also drops,
 * as far as it is told to: sources that are not admitted, connections that begin with something else
 * than a TLS record, sources that open connections too fast.
 *
 * A second look: the gateway reads the stream itself and refuses what this cannot judge. A hello that
 * comes in pieces is marked partial and is never called clean. Everything that is not TCP to a
 * listener's port passes untouched.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "moat.h"

/* Room for events that nobody has read yet, in bytes: about 3,200. */
#define EVENTS_BYTES (2 * 1024 * 1024)
/* Places for connections between their SYN and their first bytes: a power of two. */
#define FLOWS_MAX 65536
/* Most sources whose pace is known. */
#define SOURCES_MAX 65536
/* Most networks that are admitted. */
#define ADMIT_MAX 1024
/* Most VLAN tags (IEEE 802.1ad). */
#define VLANS_MAX 2
/* Most IPv6 extension headers that are passed over. */
#define EXTENSIONS_MAX 6
#define SECOND_NS 1000000000ULL

#define TCP_SYN 0x02
#define TCP_ACK 0x10
#define TCP_HEADER_BYTES 20
/* TLS record type and version, RFC 8446, section 5.1. */
#define TLS_HANDSHAKE 22
#define TLS_RECORD_BYTES 5
/* Longest record, RFC 8446, section 5.2: 2^14 bytes and 256 for ciphertext. */
#define TLS_RECORD_BYTES_MAX (16384 + 256)
#define TLS_CLIENT_HELLO 1

/* One bit for each port: those of the listeners. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u64);
} tls_ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TLS_CONTROL_PLACES);
	__type(key, __u32);
	__type(value, __u32);
} tls_control SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TLS_COUNT_PLACES);
	__type(key, __u32);
	__type(value, __u64);
} tls_counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, ADMIT_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct admit_key);
	__type(value, __u32);
} tls_admit SEC(".maps");

/* Connections that have said nothing yet, each in the place that its ends hash to. Another one with
 * the same place takes it over: the view of the older is lost then, and it is absent to the gateway.
 * No list is kept in order and nothing is allocated, so a SYN costs as little as another packet. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FLOWS_MAX);
	__type(key, __u32);
	__type(value, struct flow_slot);
} tls_flows SEC(".maps");

struct pace {
	__u64 second;
	__u64 count;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SOURCES_MAX);
	__type(key, __u64[2]);
	__type(value, struct pace);
} tls_paces SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, EVENTS_BYTES);
} tls_events SEC(".maps");

/* For BTF. */
const struct tls_event *unused_tls_event __attribute__((unused));

static __always_inline void count(__u32 place)
{
	__u64 *counter = bpf_map_lookup_elem(&tls_counts, &place);
	if (counter)
		__sync_fetch_and_add(counter, 1);
}

static __always_inline __u32 control(__u32 place)
{
	__u32 *value = bpf_map_lookup_elem(&tls_control, &place);
	return value ? *value : 0;
}

static __always_inline bool is_listener(__u16 port)
{
	__u32 word = port >> 6;
	__u64 *bits = bpf_map_lookup_elem(&tls_ports, &word);
	return bits && (*bits >> (port & 63) & 1);
}

/* What is known of a packet by the time its TCP header is found. */
struct packet {
	struct flow flow;
	__u8 ttl;
	bool is_unreadable;
	__u16 window;
};

static __always_inline struct tls_event *begin_event(const struct packet *packet, __u8 kind)
{
	struct tls_event *event = bpf_ringbuf_reserve(&tls_events, sizeof(*event), 0);
	if (!event) {
		count(TLS_COUNT_LOST);
		return 0;
	}
	/* The bytes of a hello are written by user space's rule: only `copied` of them count. */
	__builtin_memset(event, 0, __builtin_offsetof(struct tls_event, hello));
	event->at_ns = bpf_ktime_get_ns();
	event->flow = packet->flow;
	event->kind = kind;
	event->ttl = packet->ttl;
	event->window = packet->window;
	return event;
}

/* The place of a connection; its ends are mixed with the finalizer of MurmurHash3 and a number that
 * nobody outside knows, so that nobody can choose connections for one place. */
static __always_inline struct flow_slot *slot_of(const struct flow *flow)
{
	const __u64 *words = (const __u64 *)flow;
	__u32 seed_at = TLS_CONTROL_SEED, place;
	__u32 *seed = bpf_map_lookup_elem(&tls_control, &seed_at);
	__u64 mixed = seed ? *seed : 0;

#pragma unroll
	for (int i = 0; i < 5; i++) {
		mixed = (mixed ^ words[i]) * 0xff51afd7ed558ccdULL;
		mixed ^= mixed >> 33;
	}
	place = mixed & (FLOWS_MAX - 1);
	return bpf_map_lookup_elem(&tls_flows, &place);
}

static __always_inline bool is_same(const struct flow *a, const struct flow *b)
{
	const __u64 *x = (const __u64 *)a, *y = (const __u64 *)b;

	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2] && x[3] == y[3] && x[4] == y[4];
}

/* A verdict: counted, told, and carried out if that was asked for. */
static __always_inline int verdict(const struct packet *packet, __u8 kind, __u32 place, bool drop)
{
	struct tls_event *event;

	count(place);
	event = begin_event(packet, kind);
	if (event)
		bpf_ringbuf_submit(event, 0);
	return drop ? XDP_DROP : XDP_PASS;
}

/* Whether the source opens no more connections a second than it may. */
static __always_inline bool is_slow(const struct flow *flow, __u32 most)
{
	/* IPv4 is the whole address, IPv6 the /64 that one subscriber has. */
	__u64 key[2] = {};
	struct pace *pace, fresh = {};
	__u64 second = bpf_ktime_get_ns() / SECOND_NS;

	__builtin_memcpy(key, flow->source, sizeof(key));
	if (key[0])
		key[1] = 0;
	pace = bpf_map_lookup_elem(&tls_paces, key);
	if (!pace) {
		fresh.second = second;
		fresh.count = 1;
		bpf_map_update_elem(&tls_paces, key, &fresh, BPF_ANY);
		return true;
	}
	if (pace->second != second) {
		pace->second = second;
		pace->count = 1;
		return true;
	}
	return __sync_fetch_and_add(&pace->count, 1) < most;
}

static __always_inline bool is_admitted(const struct flow *flow)
{
	struct admit_key key = { .prefix_bits = 128 };

	__builtin_memcpy(key.address, flow->source, sizeof(key.address));
	return bpf_map_lookup_elem(&tls_admit, &key) != 0;
}

/* The options stand as they came: whoever reads the event takes them apart. */
static __always_inline int on_syn(struct xdp_md *ctx, const struct packet *packet, __u32 offset,
				  __u32 options)
{
	__u32 most = control(TLS_CONTROL_SYN_MAX);
	struct flow_slot *slot;

	if (control(TLS_CONTROL_ADMIT) && !is_admitted(&packet->flow))
		return verdict(packet, TLS_NOT_ADMITTED, TLS_COUNT_NOT_ADMITTED, true);
	if (most && !is_slow(&packet->flow, most))
		return verdict(packet, TLS_TOO_FAST, TLS_COUNT_TOO_FAST, true);
	slot = slot_of(&packet->flow);
	if (!slot)
		return XDP_PASS;
	slot->flow = packet->flow;
	slot->begin.at_ns = bpf_ktime_get_ns();
	slot->begin.ttl = packet->ttl;
	slot->begin.window = packet->window;
	slot->begin.option_bytes = 0;
	if (options > 0 && options <= TCP_OPTION_BYTES &&
	    !bpf_xdp_load_bytes(ctx, offset, slot->begin.options, options))
		slot->begin.option_bytes = options;
	return XDP_PASS;
}

/* The first bytes of a connection. */
static __always_inline int on_first(struct xdp_md *ctx, const struct packet *packet,
				    struct flow_slot *slot, __u32 offset, __u32 length)
{
	__u8 head[TLS_RECORD_BYTES + 1] = {};
	struct tls_event *event;
	__u32 copied = length, have = length < sizeof(head) ? length : sizeof(head);
	__u32 record;
	bool is_tls;

	if (have == sizeof(head)) {
		if (bpf_xdp_load_bytes(ctx, offset, head, sizeof(head)))
			return XDP_PASS;
	} else if (bpf_xdp_load_bytes(ctx, offset, head, 1)) {
		return XDP_PASS;
	}
	record = head[3] << 8 | head[4];
	/* What is not there yet is not held against it. */
	is_tls = head[0] == TLS_HANDSHAKE;
	if (have == sizeof(head))
		is_tls = is_tls && head[1] == 3 && head[2] <= 4 && record > 0 &&
			 record <= TLS_RECORD_BYTES_MAX && head[5] == TLS_CLIENT_HELLO;
	if (!is_tls)
		return verdict(packet, TLS_NOT_TLS, TLS_COUNT_NOT_TLS,
			       control(TLS_CONTROL_DROP_NOT_TLS));
	/* Told once: port 0 is nobody's. */
	slot->flow.port = 0;
	count(TLS_COUNT_HELLOS);
	event = begin_event(packet, TLS_HELLO);
	if (!event)
		return XDP_PASS;
	event->syn = slot->begin;
	event->record_type = head[0];
	event->version = head[1] << 8 | head[2];
	event->record_bytes = record;
	event->payload_bytes = length;
	event->is_partial = have < sizeof(head) || record + TLS_RECORD_BYTES > length;
	if (copied > TLS_HELLO_BYTES) {
		copied = TLS_HELLO_BYTES;
		event->is_partial = 1;
	}
	copied = ((copied - 1) & (TLS_HELLO_BYTES - 1)) + 1;
	event->copied = copied;
	if (bpf_xdp_load_bytes(ctx, offset, event->hello, copied)) {
		event->copied = 0;
		event->is_partial = 1;
	}
	bpf_ringbuf_submit(event, 0);
	return XDP_PASS;
}

/* Nearly always the header lies in the packet's first part, where it can be read without a call. */
static __always_inline bool load_header(struct xdp_md *ctx, __u32 offset, __u8 *head)
{
	void *at = (void *)(long)ctx->data + (offset & 0x3fff);
	void *end = (void *)(long)ctx->data_end;

	if (offset <= 0x3fff && at + TCP_HEADER_BYTES <= end) {
		__builtin_memcpy(head, at, TCP_HEADER_BYTES);
		return true;
	}
	return !bpf_xdp_load_bytes(ctx, offset, head, TCP_HEADER_BYTES);
}

/* A TCP header at `tcp`, with its packet's end at `ip_end`; both are offsets. */
static __always_inline int on_tcp(struct xdp_md *ctx, struct packet *packet, __u32 tcp, __u32 ip_end)
{
	struct flow_slot *slot;
	__u8 head[TCP_HEADER_BYTES];
	bool is_whole;
	__u32 header;

	is_whole = load_header(ctx, tcp, head);
	if (!is_whole && bpf_xdp_load_bytes(ctx, tcp, head, 4))
		return XDP_PASS;
	packet->flow.source_port = head[0] << 8 | head[1];
	packet->flow.port = head[2] << 8 | head[3];
	if (!is_listener(packet->flow.port))
		return XDP_PASS;
	header = is_whole ? (head[12] >> 4) * 4 : 0;
	if (header < TCP_HEADER_BYTES || tcp + header > ip_end) {
		/* Too short for a TCP header: nobody honest cuts it there (RFC 3128). */
		count(TLS_COUNT_UNREADABLE);
		return control(TLS_CONTROL_ADMIT) ? XDP_DROP : XDP_PASS;
	}
	packet->window = head[14] << 8 | head[15];
	if ((head[13] & (TCP_SYN | TCP_ACK)) == TCP_SYN)
		return on_syn(ctx, packet, tcp + TCP_HEADER_BYTES, header - TCP_HEADER_BYTES);
	if (tcp + header == ip_end)
		return XDP_PASS;
	slot = slot_of(&packet->flow);
	/* A connection that is older than this view, or has said its first word. */
	if (!slot || !is_same(&slot->flow, &packet->flow))
		return XDP_PASS;
	return on_first(ctx, packet, slot, tcp + header, ip_end - (tcp + header));
}

/* Where the transport header is and where the packet ends; 0 if there is nothing to look at. */
static __always_inline __u32 read_ipv4(__u8 *ip, void *data, void *end, struct packet *packet,
				       __u32 *ip_end)
{
	__u32 header, total;

	if ((void *)(ip + 20) > end)
		return 0;
	header = (ip[0] & 0xf) * 4;
	total = ip[2] << 8 | ip[3];
	if (ip[0] >> 4 != 4 || header < 20 || total < header || ip[9] != IPPROTO_TCP)
		return 0;
	/* Of a later fragment nothing can be told. */
	if ((ip[6] << 8 | ip[7]) & 0x1fff) {
		count(TLS_COUNT_FRAGMENTS);
		return 0;
	}
	packet->ttl = ip[8];
	packet->flow.source[10] = 0xff;
	packet->flow.source[11] = 0xff;
	__builtin_memcpy(packet->flow.source + 12, ip + 12, 4);
	packet->flow.target[10] = 0xff;
	packet->flow.target[11] = 0xff;
	__builtin_memcpy(packet->flow.target + 12, ip + 16, 4);
	*ip_end = (void *)ip - data + total;
	return (void *)ip - data + header;
}

static __always_inline __u32 read_ipv6(struct xdp_md *ctx, __u8 *ip, void *data, void *end,
				       struct packet *packet, __u32 *ip_end)
{
	__u32 at;
	__u8 next, head[4];

	if ((void *)(ip + 40) > end || ip[0] >> 4 != 6)
		return 0;
	next = ip[6];
	packet->ttl = ip[7];
	__builtin_memcpy(packet->flow.source, ip + 8, 16);
	__builtin_memcpy(packet->flow.target, ip + 24, 16);
	at = (void *)ip - data + 40;
	*ip_end = at + (ip[4] << 8 | ip[5]);
	for (int i = 0; i < EXTENSIONS_MAX && next != IPPROTO_TCP; i++) {
		if (bpf_xdp_load_bytes(ctx, at, head, sizeof(head)))
			return 0;
		if (next == IPPROTO_FRAGMENT) {
			if ((head[2] << 8 | head[3]) & 0xfff8) {
				count(TLS_COUNT_FRAGMENTS);
				return 0;
			}
			at += 8;
		} else if (next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING ||
			   next == IPPROTO_DSTOPTS) {
			at += (head[1] + 1) * 8;
		} else if (next == IPPROTO_AH) {
			at += (head[1] + 2) * 4;
		} else {
			return 0;
		}
		next = head[0];
	}
	if (next == IPPROTO_TCP)
		return at;
	/* More headers than anybody needs. */
	count(TLS_COUNT_UNREADABLE);
	packet->is_unreadable = true;
	return 0;
}

SEC("xdp")
int tls_records(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct packet packet = {};
	__u32 tcp = 0, ip_end = 0;
	__u8 *at = data;
	__u16 kind;

	if ((void *)(at + 14) > end)
		return XDP_PASS;
	kind = at[12] << 8 | at[13];
	at += 14;
#pragma unroll
	for (int i = 0; i < VLANS_MAX; i++) {
		if (kind != ETH_P_8021Q && kind != ETH_P_8021AD)
			break;
		if ((void *)(at + 4) > end)
			return XDP_PASS;
		kind = at[2] << 8 | at[3];
		at += 4;
	}
	if (kind == ETH_P_IP)
		tcp = read_ipv4(at, data, end, &packet, &ip_end);
	else if (kind == ETH_P_IPV6)
		tcp = read_ipv6(ctx, at, data, end, &packet, &ip_end);
	if (tcp)
		return on_tcp(ctx, &packet, tcp, ip_end);
	/* Where it goes cannot be told, so it may go where it must not. */
	return packet.is_unreadable && control(TLS_CONTROL_ADMIT) ? XDP_DROP : XDP_PASS;
}

/* See egress.bpf.c. */
char LICENSE[] SEC("license") = "Dual MIT/GPL";
