/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the qtests of -netdev qdes share
 *
 * The other end of the wire is a Station: a port written for these tests from
 * the protocol's description, which shares no code with the backend.  The
 * guest's end is either a Hub port, where frames go in and out of a hub by a
 * -netdev socket and no guest is needed, or a Nic, a small virtio-net driver.
 *
 * Everything stays on the loopback interface.  Each test draws a group and a
 * UDP port of its own, so that many can run at once.  What does not come in
 * time, or is not sound, ends the test.
 */

#ifndef QDES_LIB_H
#define QDES_LIB_H

#include "libqtest.h"
#include "libqos/malloc-pc.h"
#include "libqos/pci-pc.h"
#include "libqos/virtio-pci.h"
#include "standard-headers/linux/virtio_net.h"
#if __has_include("qobject/qdict.h")
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "qobject/qstring.h"
#else
#include "qapi/qmp/qdict.h"
#include "qapi/qmp/qlist.h"
#include "qapi/qmp/qstring.h"
#endif

#define WAIT_MS 20000           /* for what has to come */
#define POLL_US 2000            /* between two looks at it */

#define HEADER_SIZE 8
#define HELLO_SIZE 224          /* bytes, as ports pad theirs */
#define FRAME_MAX 65499
#define FLAG_CSUM_PARTIAL 1     /* of DATA: its checksum is not finished */
#define FLAG_SUPERFRAME 4       /* of DATA: the segment size precedes it */
#define CAP_CSUM_PARTIAL 1      /* of a HELLO: such DATA is accepted */
#define CAP_SUPERFRAME 2
#define ETHERTYPE 0x88b5        /* IEEE 802: local experiments */

enum { DATA = 0, HELLO = 1, BYE = 2, ECHO = 3, ECHO_REPLY = 4, PEERS = 5 };
enum { TLV_INSTANCE = 1, TLV_CAPABILITIES = 2, TLV_MTU = 3, TLV_NAME = 4,
       TLV_OBSERVED = 8, TLV_PADDING = 9 };

extern const uint8_t mac_all[6];
extern const uint8_t mac_guest[6];
extern const uint8_t mac_a[6];
extern const uint8_t mac_b[6];

int64_t now_ms(void);

/* Look at @condition until it holds; fail if it does not for too long. */
#define WAIT_FOR(condition)                                             \
    do {                                                                \
        int64_t end_ = now_ms() + WAIT_MS;                              \
        while (!(condition)) {                                          \
            if (now_ms() > end_) {                                      \
                g_error("%s:%d: waited in vain for %s",                 \
                        __FILE__, __LINE__, #condition);                \
            }                                                           \
            g_usleep(POLL_US);                                          \
        }                                                               \
    } while (0)

/* Is there something to read from @fd within @ms? */
bool readable(int fd, int ms);

/* --- Frames ------------------------------------------------------------- */

typedef struct Frame {
    uint8_t data[FRAME_MAX + 1];
    size_t size;
} Frame;

/* A frame that is like no other: @serial is in it. */
Frame *make_frame(const uint8_t *dst, const uint8_t *src, uint32_t serial,
                  size_t size);
void assert_frame(const Frame *frame, const void *data, size_t size);

/* --- A fabric ----------------------------------------------------------- */

typedef struct Fabric {
    struct sockaddr_in group;
    char *mcast;                /* as an option has it */
} Fabric;

Fabric *fabric_new(void);
void fabric_free(Fabric *fabric);

/* --- A station: the other end of the wire ------------------------------- */

typedef struct Station {
    const char *name;
    uint32_t netid;
    uint64_t instance;
    uint32_t capabilities;      /* that its HELLOs claim */
    struct sockaddr_in group;
    struct sockaddr_in addr;    /* its own endpoint */
    int group_fd;               /* hears the group */
    int fd;                     /* sends, and hears unicast */
} Station;

typedef struct Datagram {
    uint8_t buf[65536];
    struct sockaddr_in from;
    int type;
    int flags;
    int segment_size;           /* of a superframe, else 0 */
    const uint8_t *payload;
    size_t size;                /* of the payload */
    uint64_t instance;          /* of a HELLO or BYE */
    char name[64];
} Datagram;

Station *station_new(const Fabric *fabric, uint32_t netid, const char *name);
void station_free(Station *st);

/* "127.0.0.1:PORT", as status shows it; the caller frees it. */
char *station_endpoint(const Station *st);

/* Send bytes as they are; @to NULL is the group. */
void station_send(Station *st, const struct sockaddr_in *to,
                  const void *data, size_t size);
void station_frame(Station *st, const struct sockaddr_in *to,
                   const Frame *frame);
void station_superframe(Station *st, const struct sockaddr_in *to,
                        const Frame *frame, uint16_t segment_size);
void station_control(Station *st, const struct sockaddr_in *to, int type);

/*
 * Read one datagram of the station's network that does not come from the
 * station itself.  All that QEMU sends has to be sound.
 */
bool station_read(Station *st, int fd, Datagram *dg, int ms);

/* Wait for the next datagram of @type; others are passed over. */
void station_wait(Station *st, int fd, int type, Datagram *dg);

/* The next frame that comes has to be @frame. */
void station_expect(Station *st, int fd, const Frame *frame);

/* --- QEMU --------------------------------------------------------------- */

/* Run a command that has to succeed; returns its whole response. */
QDict *qmp_ok(QTestState *qts, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

#define QMP(qts, ...) qobject_unref(qmp_ok(qts, __VA_ARGS__))

void set_link(QTestState *qts, const char *name, bool up);

/* Run a command, given with ' for ", whose error has to contain @error. */
void qmp_refused(QTestState *qts, const char *command, const char *error);

int count_ports(QTestState *qts);

/* What query-qdes says of netdev @id; the caller drops the reference. */
QDict *port_status(QTestState *qts, const char *id);
uint64_t port_count(QTestState *qts, const char *id, const char *name);
bool port_flag(QTestState *qts, const char *id, const char *name);
int port_peers(QTestState *qts, const char *id);

/* Where the port hears unicast. */
struct sockaddr_in port_endpoint(QTestState *qts, const char *id);

/* The entry of list @list whose @key is @value, or NULL. */
QDict *find_entry(QDict *port, const char *list, const char *key,
                  const char *value);

/* What status has as @key, of a port or of an entry, has to be @value. */
void assert_option(QDict *port, const char *key, const char *value);

/* Every frame and every datagram is in exactly one counter. */
void assert_books(QTestState *qts, const char *id);

/*
 * Run QEMU to its end; returns its output, both streams together, but for
 * what AddressSanitizer says at each start.
 */
char *run_qemu(const char *args, int *status);
bool has_netdev(const char *type);

/* Options with which there is no netdev. */
typedef struct BadOption {
    const char *json;           /* as QMP has it */
    const char *keys;           /* as the command line has it */
    const char *error;          /* what the message has to contain */
} BadOption;

/* Each is one QMP error, and leaves everything as it was. */
void assert_bad_qmp(QTestState *qts, const BadOption *bad, int n);

/*
 * On the command line, after @args, each is one message, and QEMU does not
 * start.  The message does not have @secret in it, which may be NULL.
 */
void assert_bad_cli(const char *args, const BadOption *bad, int n,
                    const char *secret);

/* --- The guest's end: a hub --------------------------------------------- */

typedef struct Hub {
    QTestState *qts;
    int fd;
} Hub;

/*
 * A qdes netdev "qN" with @options, joined by hub N to a socket.  Returns the
 * arguments that make it, and in @fd this end of the socket.
 */
char *hub_args(int n, const Fabric *fabric, uint32_t netid,
               const char *options, int *fd, int *their_fd);
Hub hub_start(const Fabric *fabric, uint32_t netid, const char *options,
              const char *more);
void hub_stop(Hub *hub);
void hub_send(int fd, const Frame *frame);

/* The next frame that comes out of the hub; returns its size. */
size_t hub_receive(int fd, uint8_t *data);
void hub_expect(int fd, const Frame *frame);

/* --- The guest's end: a virtio-net driver ------------------------------- */

#define NIC_SLOT 5
#define NIC_HEADER sizeof(struct virtio_net_hdr_mrg_rxbuf)
#define NIC_BUFFER 2048
#define NIC_QUEUE 256

/* What a driver for plain frames uses. */
#define NIC_PLAIN (1ull << VIRTIO_NET_F_MRG_RXBUF)

/* Headers of old do not know USO (virtio 1.2, 5.1.3). */
enum { GUEST_USO4 = 54, GUEST_USO6 = 55, HOST_USO = 56 };

#define NIC_OFFLOADS ((1ull << VIRTIO_NET_F_CSUM) |         \
                      (1ull << VIRTIO_NET_F_HOST_TSO4) |    \
                      (1ull << VIRTIO_NET_F_HOST_TSO6) |    \
                      (1ull << VIRTIO_NET_F_HOST_ECN) |     \
                      (1ull << HOST_USO) |                  \
                      (1ull << VIRTIO_NET_F_GUEST_CSUM) |   \
                      (1ull << VIRTIO_NET_F_GUEST_TSO4) |   \
                      (1ull << VIRTIO_NET_F_GUEST_TSO6) |   \
                      (1ull << VIRTIO_NET_F_GUEST_ECN) |    \
                      (1ull << GUEST_USO4) |                \
                      (1ull << GUEST_USO6))

typedef struct Nic {
    QTestState *qts;
    QGuestAllocator alloc;
    QPCIBus *bus;
    QVirtioPCIDevice *dev;
    QVirtQueue *rx, *tx, *control;
    uint64_t offered;           /* features */
    int given;                  /* buffers that the device has */
    uint64_t buffers[NIC_QUEUE]; /* of descriptors in rx */
    uint32_t used[NIC_QUEUE];   /* descriptors whose buffers came back */
    int n_used;
} Nic;

#define PC_ARGS "-M pc -nodefaults "

/* A PC with one NIC on one qdes netdev with @options; @more are further
 * arguments. */
QTestState *pc_start(const Fabric *fabric, uint32_t netid, const char *options,
                     const char *model, const char *more);

/* If not, the test is skipped. */
bool has_pc_and(const char *device);

Nic *nic_new(QTestState *qts);
void nic_free(Nic *nic);

/*
 * Drive the virtio-net device that was plugged in, with those @features that
 * it offers, and the ones that every driver needs.
 */
void nic_drive(Nic *nic, uint64_t features);
void nic_undrive(Nic *nic);

/* Give the device @n buffers to receive into, or so many that it has @n. */
void nic_add_buffers(Nic *nic, int n);
void nic_fill(Nic *nic, int n);

/* The next frame, and its header; returns the frame's size. */
size_t nic_receive_with(Nic *nic, struct virtio_net_hdr_mrg_rxbuf *header,
                        uint8_t *data, size_t max);

/* The next frame has to be @frame, and to need nothing. */
void nic_expect(Nic *nic, const Frame *frame);

/* Send, and wait until the device is done with it; @header may be NULL. */
void nic_send_with(Nic *nic, const struct virtio_net_hdr *header,
                   const void *data, size_t size);
void nic_send(Nic *nic, const Frame *frame);

/* Accept the offloads in @bits from now on, of those agreed upon. */
void nic_set_offloads(Nic *nic, uint64_t bits);

#endif
