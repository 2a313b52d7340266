/*
 * Egress guard: where processes of a cgroup may connect and send to. What is not on the list in
 * force is refused with EACCES, counted and told. Two locks: at the call (connect, sendmsg), and at
 * the packet, for what would come by any other way.
 *
 * It never lets anything pass because something went wrong: no list, no entry, no header are all
 * refusals.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "moat.h"

#define EACCES 13
#define AF_INET6_BITS 128
/* Room for refusals that nobody has read yet, in bytes: about 50,000. */
#define EVENTS_BYTES (4 * 1024 * 1024)
/* The same for DNS answers: about 480. */
#define ANSWERS_BYTES (256 * 1024)

/* TCP flags, RFC 9293, section 3.1. */
#define TCP_SYN 0x02
#define TCP_ACK 0x10

struct allow_list {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, ALLOW_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct allow_key);
	__type(value, __u32);
	__uint(pinning, 1);
};

/* One is in force, the other is being written: an update is one store to CONTROL_LIST. */
struct allow_list allow_even SEC(".maps");
struct allow_list allow_odd SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CONTROL_PLACES);
	__type(key, __u32);
	__type(value, __u32);
	__uint(pinning, 1);
} egress_control SEC(".maps");

/* One counter for all processors: attempts are rare, and a reader needs no file to find out how
 * many processors there are. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, COUNT_PLACES);
	__type(key, __u32);
	__type(value, __u64);
	__uint(pinning, 1);
} egress_counts SEC(".maps");

/* What user space has made records of, so that its successor knows. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, LEDGER_PLACES);
	__type(key, __u32);
	__type(value, __u64);
	__uint(pinning, 1);
} egress_ledger SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SEEN_MAX);
	__type(key, struct destination);
	__type(value, struct attempts);
	__uint(pinning, 1);
} egress_seen SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, EVENTS_BYTES);
	__uint(pinning, 1);
} egress_events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, ANSWERS_BYTES);
	__uint(pinning, 1);
} dns_answers SEC(".maps");

/* For BTF: a structure that no map and no variable has is left out of it. */
const struct egress_event *unused_egress_event __attribute__((unused));
const struct dns_event *unused_dns_event __attribute__((unused));

static __always_inline void count(__u32 place)
{
	__u64 *counter = bpf_map_lookup_elem(&egress_counts, &place);
	if (counter)
		__sync_fetch_and_add(counter, 1);
}

static __always_inline __u32 control(__u32 place)
{
	__u32 *value = bpf_map_lookup_elem(&egress_control, &place);
	return value ? *value : 0;
}

static __always_inline bool is_listed(struct allow_key *key)
{
	if (control(CONTROL_LIST))
		return bpf_map_lookup_elem(&allow_odd, key) != 0;
	return bpf_map_lookup_elem(&allow_even, key) != 0;
}

static __always_inline bool is_allowed(const struct destination *to)
{
	struct allow_key key = {
		.prefix_bits = ALLOW_KEY_HEAD_BITS + AF_INET6_BITS,
		.protocol = to->protocol,
		.port = bpf_htons(to->port),
	};
	__builtin_memcpy(key.address, to->address, sizeof(key.address));
	if (is_listed(&key))
		return true;
	key.port = 0;
	return is_listed(&key);
}

static __always_inline void note(const struct destination *to, bool allowed)
{
	struct attempts *known = bpf_map_lookup_elem(&egress_seen, to);
	if (!known) {
		struct attempts fresh = {};
		bpf_map_update_elem(&egress_seen, to, &fresh, BPF_NOEXIST);
		known = bpf_map_lookup_elem(&egress_seen, to);
		if (!known)
			return;
	}
	__sync_fetch_and_add(allowed ? &known->allowed : &known->refused, 1);
	known->last_ns = bpf_ktime_get_ns();
}

static __always_inline void tell(const struct destination *to, __u8 hook)
{
	struct egress_event *event;

	count(COUNT_REFUSED);
	event = bpf_ringbuf_reserve(&egress_events, sizeof(*event), 0);
	if (!event) {
		count(COUNT_LOST);
		return;
	}
	__builtin_memset(event, 0, sizeof(*event));
	event->at_ns = bpf_ktime_get_ns();
	__builtin_memcpy(event->address, to->address, sizeof(event->address));
	event->port = to->port;
	event->protocol = to->protocol;
	event->hook = hook;
	/* A packet may leave in the context of any task: then who is running says nothing. */
	if (hook != HOOK_PACKET) {
		event->cgroup = bpf_get_current_cgroup_id();
		event->pid = bpf_get_current_pid_tgid() >> 32;
		event->uid = (__u32)bpf_get_current_uid_gid();
		bpf_get_current_comm(event->comm, sizeof(event->comm));
	}
	bpf_ringbuf_submit(event, 0);
}

static __always_inline void map_ipv4(__u8 address[16], __u32 ipv4)
{
	__builtin_memset(address, 0, 10);
	address[10] = 0xff;
	address[11] = 0xff;
	__builtin_memcpy(address + 12, &ipv4, 4);
}

/* Of an attempt: 1 lets it pass, 0 refuses it. */
static __always_inline int judge(const struct destination *to, __u8 hook)
{
	bool allowed = is_allowed(to);

	note(to, allowed);
	if (allowed) {
		count(COUNT_ALLOWED);
		return 1;
	}
	tell(to, hook);
	return control(CONTROL_OBSERVE) ? 1 : 0;
}

static __always_inline int judge_call(const struct destination *to, __u8 hook)
{
	int passes = judge(to, hook);

	if (!passes)
		bpf_set_retval(-EACCES);
	return passes;
}

static __always_inline int judge_ipv4(struct bpf_sock_addr *ctx, __u8 hook)
{
	struct destination to = {
		.port = bpf_ntohs((__u16)ctx->user_port),
		.protocol = (__u8)ctx->protocol,
	};

	map_ipv4(to.address, ctx->user_ip4);
	/* A protocol number that does not fit is none that can be on a list. */
	if (ctx->protocol > 255)
		to.protocol = 255;
	return judge_call(&to, hook);
}

static __always_inline int judge_ipv6(struct bpf_sock_addr *ctx, __u8 hook)
{
	struct destination to = {
		.port = bpf_ntohs((__u16)ctx->user_port),
		.protocol = (__u8)ctx->protocol,
	};
	__u32 words[4] = {
		ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3],
	};

	__builtin_memcpy(to.address, words, sizeof(to.address));
	if (ctx->protocol > 255)
		to.protocol = 255;
	return judge_call(&to, hook);
}

SEC("cgroup/connect4")
int egress_connect4(struct bpf_sock_addr *ctx)
{
	return judge_ipv4(ctx, HOOK_CONNECT);
}

SEC("cgroup/connect6")
int egress_connect6(struct bpf_sock_addr *ctx)
{
	return judge_ipv6(ctx, HOOK_CONNECT);
}

SEC("cgroup/sendmsg4")
int egress_sendmsg4(struct bpf_sock_addr *ctx)
{
	return judge_ipv4(ctx, HOOK_SENDMSG);
}

SEC("cgroup/sendmsg6")
int egress_sendmsg6(struct bpf_sock_addr *ctx)
{
	return judge_ipv6(ctx, HOOK_SENDMSG);
}

/* The far end of a packet and where its transport header begins; false if that cannot be told. */
static __always_inline bool far_end(struct __sk_buff *skb, bool leaving, struct destination *end,
				    __u32 *transport)
{
	__u8 first, protocol;
	__u32 ipv4;

	if (bpf_skb_load_bytes(skb, 0, &first, 1))
		return false;
	if (first >> 4 == 4) {
		__be16 fragment;

		if (bpf_skb_load_bytes(skb, 6, &fragment, 2) ||
		    bpf_skb_load_bytes(skb, 9, &protocol, 1) ||
		    bpf_skb_load_bytes(skb, leaving ? 16 : 12, &ipv4, 4))
			return false;
		end->protocol = protocol;
		map_ipv4(end->address, ipv4);
		*transport = (first & 0xf) * 4;
		/* A later fragment has no ports. */
		return !(bpf_ntohs(fragment) & 0x1fff);
	}
	if (first >> 4 == 6) {
		if (bpf_skb_load_bytes(skb, 6, &protocol, 1) ||
		    bpf_skb_load_bytes(skb, leaving ? 24 : 8, end->address, 16))
			return false;
		end->protocol = protocol;
		*transport = 40;
		return true;
	}
	return false;
}

/* Where the transport header begins, of a packet of this protocol with nothing between; else 0. Also
 * 0 of a later fragment, which has none. */
static __always_inline __u32 header_of(struct __sk_buff *skb, __u8 protocol)
{
	__u8 head[10];

	if (bpf_skb_load_bytes(skb, 0, head, sizeof(head)))
		return 0;
	if (head[0] >> 4 == 4)
		return head[9] == protocol && !((head[6] << 8 | head[7]) & 0x1fff) ?
			       (head[0] & 0xf) * 4 : 0;
	return head[0] >> 4 == 6 && head[6] == protocol ? 40 : 0;
}

SEC("cgroup_skb/egress")
int egress_packet(struct __sk_buff *skb)
{
	struct destination to = {};
	__u32 transport = 0;
	__be16 port = 0;
	__u8 flags = 0;

	/* Only what opens a connection: the rest belongs to one that was allowed, or to one that
	 * somebody else opened. Looked at first, because it is nearly everything. */
	transport = header_of(skb, IPPROTO_TCP);
	if (transport && !bpf_skb_load_bytes(skb, transport + 13, &flags, 1) &&
	    (flags & (TCP_SYN | TCP_ACK)) != TCP_SYN)
		return 1;
	if (!far_end(skb, true, &to, &transport))
		return judge(&to, HOOK_PACKET);
	if (to.protocol == IPPROTO_TCP || to.protocol == IPPROTO_UDP) {
		if (bpf_skb_load_bytes(skb, transport + 2, &port, 2))
			return judge(&to, HOOK_PACKET);
		to.port = bpf_ntohs(port);
	}
	/* An allowed packet was counted at its call. */
	if (is_allowed(&to))
		return 1;
	/* So was one that only an observing guard let pass. */
	if (control(CONTROL_OBSERVE))
		return 1;
	return judge(&to, HOOK_PACKET);
}

/* Hands DNS answers of allowed resolvers to user space. Drops nothing. */
SEC("cgroup_skb/ingress")
int egress_answers(struct __sk_buff *skb)
{
	struct destination from = {};
	struct dns_event *event;
	__u32 transport = 0, begin, length;
	__be16 port = 0;

	if (!header_of(skb, IPPROTO_UDP) || !far_end(skb, false, &from, &transport))
		return 1;
	if (bpf_skb_load_bytes(skb, transport, &port, 2) || port != bpf_htons(53))
		return 1;
	from.port = 53;
	if (!is_allowed(&from))
		return 1;
	begin = transport + 8;
	if (skb->len <= begin)
		return 1;
	length = skb->len - begin;
	if (length > DNS_BYTES_MAX)
		length = DNS_BYTES_MAX;
	event = bpf_ringbuf_reserve(&dns_answers, sizeof(*event), 0);
	if (!event)
		return 1;
	event->at_ns = bpf_ktime_get_ns();
	event->nothing = 0;
	event->length = length;
	__builtin_memset(event->answer, 0, sizeof(event->answer));
	/* Tells the verifier what the lines above have made sure of. */
	length = ((length - 1) & (DNS_BYTES_MAX - 1)) + 1;
	if (bpf_skb_load_bytes(skb, begin, event->answer, length)) {
		bpf_ringbuf_discard(event, 0);
		return 1;
	}
	bpf_ringbuf_submit(event, 0);
	return 1;
}

/* Some helpers are only for programs whose licence goes with GPL-2.0, as the MIT licence does. The
 * kernel knows that licence by this name. */
char LICENSE[] SEC("license") = "Dual MIT/GPL";
