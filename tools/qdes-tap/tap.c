/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bridge.h"
#include "tapoffload.h"

#define TUN_DEVICE "/dev/net/tun"

GQuark tap_error_quark(void)
{
    return g_quark_from_static_string("qdes-tap-device");
}

bool tap_check_name(const char *name, GError **errp)
{
    const char *percent = strchr(name, '%');
    const char *wrong = NULL;
    const char *p;

    if (*name == '\0') {
        wrong = "empty";
    } else if (strlen(name) >= IFNAMSIZ) {
        wrong = "too long";
    } else if (g_str_equal(name, ".") || g_str_equal(name, "..")) {
        wrong = "no name for an interface";
    } else if (percent && (percent[1] != 'd' || strchr(percent + 1, '%'))) {
        wrong = "only one %d may stand in it, for a number";
    }
    for (p = name; !wrong && *p; p++) {
        if (!g_ascii_isgraph(*p) || *p == '/' || *p == ':') {
            wrong = "a character that no interface may have in its name";
        }
    }
    if (wrong) {
        g_set_error(errp, TAP_ERROR, EINVAL, "--tap=%s: %s; give 1 to %d "
                    "letters, digits, '-', '_' or '.'", name, wrong,
                    IFNAMSIZ - 1);
        return false;
    }
    return true;
}

char *tap_explain(const char *name, bool exists, int err)
{
    switch (err) {
    case EPERM:
    case EACCES:
        if (exists) {
            return g_strdup_printf(
                "--tap=%s: this TAP device belongs to another user; make it "
                "yours with: sudo ip tuntap del dev %s mode tap && sudo ip "
                "tuntap add dev %s mode tap user $USER", name, name, name);
        }
        return g_strdup_printf(
            "--tap=%s: there is no such device, and making one takes root; "
            "run: sudo ip tuntap add dev %s mode tap user $USER", name, name);
    case EBUSY:
        return g_strdup_printf(
            "--tap=%s: in use by another program; end that one, or give "
            "another name", name);
    case EINVAL:
        if (exists) {
            return g_strdup_printf(
                "--tap=%s: this interface exists but is not a TAP device; "
                "give another name, and put both into one bridge if they "
                "shall be joined", name);
        }
        break;
    case ENFILE:
        return g_strdup_printf("--tap=%s: the kernel has no number left for "
                               "this name; give another", name);
    default:
        break;
    }
    return g_strdup_printf("--tap=%s: cannot open the TAP device: %s", name,
                           g_strerror(err));
}

static const char *explain_tun_device(int err)
{
    switch (err) {
    case ENOENT:
    case ENXIO:
    case ENODEV:
        return "the kernel has no TUN/TAP driver; load it with: sudo modprobe "
               "tun (in a container: pass the device " TUN_DEVICE " in)";
    case EACCES:
    case EPERM:
        return "no permission; run as root, or let your user in with: sudo "
               "chmod 0666 " TUN_DEVICE;
    default:
        return g_strerror(err);
    }
}

/* An ioctl that asks about or changes the interface tap->name. */
static bool interface_ioctl(const Tap *tap, unsigned long request,
                            struct ifreq *ifr)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool ok;

    if (fd < 0) {
        return false;
    }
    g_strlcpy(ifr->ifr_name, tap->name, sizeof(ifr->ifr_name));
    ok = ioctl(fd, request, ifr) == 0;
    close(fd);
    return ok;
}

static int real_ioctl(int fd, unsigned long request, uintptr_t arg)
{
    return ioctl(fd, request, arg);
}

/* While the device is down, it has none. */
bool tap_has_carrier(const Tap *tap)
{
    struct ifreq ifr = { 0 };

    return interface_ioctl(tap, SIOCGIFFLAGS, &ifr) &&
           ifr.ifr_flags & IFF_RUNNING;
}

/* Have frames of the device a header now? */
static bool has_header(const Tap *tap)
{
    char *path = g_strdup_printf("/sys/class/net/%s/tun_flags", tap->name);
    char *text = NULL;
    uint64_t flags = 0;

    if (g_file_get_contents(path, &text, NULL, NULL)) {
        flags = g_ascii_strtoull(text, NULL, 16);
    }
    g_free(text);
    g_free(path);
    return flags & IFF_VNET_HDR;
}

/* Sets @vnet_hdr to whether frames have a header.  Returns 0 or an errno. */
static int attach(Tap *tap, bool *vnet_hdr)
{
    struct ifreq ifr = { 0 };
    int ret;

    g_strlcpy(ifr.ifr_name, tap->name, sizeof(ifr.ifr_name));
    ifr.ifr_flags = IFF_TAP | IFF_NO_PI | (*vnet_hdr ? IFF_VNET_HDR : 0);
    ret = ioctl(tap->fd, TUNSETIFF, &ifr);
    if (ret < 0 && errno == EINVAL && !tap->created) {
        /* A device made for several queues takes only who asks for one; does
         * it have a carrier, somebody has it open. */
        tap->shared = tap_has_carrier(tap);
        if (tap->shared) {
            *vnet_hdr = has_header(tap);
        }
        ifr.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE |
                        (*vnet_hdr ? IFF_VNET_HDR : 0);
        ret = ioctl(tap->fd, TUNSETIFF, &ifr);
        tap->multi_queue = ret == 0;
    }
    if (ret < 0 || ioctl(tap->fd, TUNGETIFF, &ifr) < 0) {
        return errno;
    }
    g_strlcpy(tap->name, ifr.ifr_name, sizeof(tap->name));
    *vnet_hdr = ifr.ifr_flags & IFF_VNET_HDR;
    return 0;
}

/* As tap_open(); *@vnet_hdr is false where it is not possible. */
static bool try_open(Tap *tap, const char *name, bool *vnet_hdr,
                     GError **errp)
{
    char *text;
    int err;

    *tap = (Tap) { .created = if_nametoindex(name) == 0 };
    g_strlcpy(tap->name, name, sizeof(tap->name));
    tap->fd = open(TUN_DEVICE, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (tap->fd < 0) {
        err = errno;
        g_set_error(errp, TAP_ERROR, err, "--tap=%s: cannot open "
                    TUN_DEVICE ": %s", name, explain_tun_device(err));
        return false;
    }
    err = attach(tap, vnet_hdr);
    if (err) {
        text = tap_explain(name, !tap->created, err);
        g_set_error_literal(errp, TAP_ERROR, err, text);
        g_free(text);
        tap_close(tap);
        return false;
    }
    return true;
}

bool tap_open(Tap *tap, const char *name, bool vnet_hdr, GError **errp)
{
    int err;

    if (!try_open(tap, name, &vnet_hdr, errp)) {
        return false;
    }
    if (vnet_hdr) {
        if (tap_offload_begin(&tap->port, tap->fd, tap->shared, real_ioctl)) {
            return true;
        }
        tap_close(tap);
        vnet_hdr = false;
        if (!try_open(tap, name, &vnet_hdr, errp)) {
            return false;
        }
    }
    /* frames have to come whole and summed, whatever the last user wanted */
    if (vnet_hdr ||
        (!tap->shared && !tap_offload_end(tap->fd, real_ioctl))) {
        err = vnet_hdr ? EBUSY : errno;
        g_set_error(errp, TAP_ERROR, err, "--tap=%s: cannot switch offloads "
                    "off: %s", name, g_strerror(err));
        tap_close(tap);
        return false;
    }
    return true;
}

bool tap_bring_up(Tap *tap)
{
    struct ifreq ifr = { 0 };

    if (!interface_ioctl(tap, SIOCGIFFLAGS, &ifr)) {
        return false;
    }
    if (ifr.ifr_flags & IFF_UP) {
        return true;
    }
    ifr.ifr_flags |= IFF_UP;
    return interface_ioctl(tap, SIOCSIFFLAGS, &ifr);
}

TapState tap_state(Tap *tap)
{
    struct ifreq ifr = { 0 };

    if (ioctl(tap->fd, TUNGETIFF, &ifr) < 0) {
        return TAP_GONE;
    }
    g_strlcpy(tap->name, ifr.ifr_name, sizeof(tap->name));
    /*
     * The descriptor works on when the interface is moved to another network
     * namespace, where it cannot be looked at from here: take it for up.
     */
    if (!interface_ioctl(tap, SIOCGIFFLAGS, &ifr) || ifr.ifr_flags & IFF_UP) {
        return TAP_UP;
    }
    return TAP_DOWN;
}

bool tap_is_bridged(const Tap *tap)
{
    struct ifreq ifr = { 0 };

    return interface_ioctl(tap, SIOCGIFINDEX, &ifr) &&
           bridge_passes_at_once(ifr.ifr_ifindex);
}

bool tap_set_carrier(Tap *tap, bool on)
{
    unsigned value = on;

    return !tap->shared && ioctl(tap->fd, TUNSETCARRIER, &value) == 0;
}

ssize_t tap_read(Tap *tap, void *frame, size_t size)
{
    ssize_t ret;

    do {
        ret = read(tap->fd, frame, size);
    } while (ret < 0 && errno == EINTR);
    return ret;
}

bool tap_write(Tap *tap, const struct iovec *iov, int iovcnt)
{
    ssize_t ret;

    do {
        ret = writev(tap->fd, iov, iovcnt);
    } while (ret < 0 && errno == EINTR);
    return ret >= 0;
}

void tap_close(Tap *tap)
{
    if (tap->fd >= 0) {
        if (!tap->shared) {
            tap_offload_end(tap->fd, real_ioctl);
        }
        close(tap->fd);
        tap->fd = -1;
    }
}
