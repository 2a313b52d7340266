/*
 * A link that loses packets, for `moat bench latency`: of TCP to or from one port, so many of a thousand that
 * bear data. Never attached by a role.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#define ETHERNET_BYTES 14
/* Let the next program decide; drop. */
#define NEXT -1
#define DROP 2

/* Port, and how many of a thousand. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} loss_control SEC(".maps");

static __always_inline __u32 control(__u32 place)
{
	__u32 *value = bpf_map_lookup_elem(&loss_control, &place);

	return value ? *value : 0;
}

SEC("classifier")
int loss(struct __sk_buff *skb)
{
	__u8 ip[20], tcp[14];
	__u32 ip_bytes, port = control(0);

	if (bpf_skb_load_bytes(skb, ETHERNET_BYTES, ip, sizeof(ip)) || ip[0] >> 4 != 4 ||
	    ip[9] != IPPROTO_TCP)
		return NEXT;
	ip_bytes = (ip[0] & 15) * 4;
	if (bpf_skb_load_bytes(skb, ETHERNET_BYTES + ip_bytes, tcp, sizeof(tcp)))
		return NEXT;
	if ((__u32)(tcp[0] << 8 | tcp[1]) != port && (__u32)(tcp[2] << 8 | tcp[3]) != port)
		return NEXT;
	if ((__u32)(ip[2] << 8 | ip[3]) <= ip_bytes + (tcp[12] >> 4) * 4)
		return NEXT;
	return bpf_get_prandom_u32() % 1000 < control(1) ? DROP : NEXT;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
