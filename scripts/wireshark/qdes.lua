-- SPDX-License-Identifier: GPL-2.0-or-later
--
-- Wireshark dissector for QDES, version 1 of the protocol (docs/protocol.md).
-- docs/wireshark.md tells how to install and use it.
--
-- It shows what a receiver would make of each datagram: one that a receiver
-- without optional parts drops has qdes.malformed with the reason, as
-- docs/protocol.md names it.  CSUM_PARTIAL, SUPERFRAME, RELAYED and SEALED are
-- no reasons here, for there are receivers that take them.
--
-- Two lengths matter everywhere: what was sent (reported_len) decides whether
-- a datagram is well-formed; what the capture holds (len), which may be less,
-- bounds what is read.
--
-- For Wireshark 3.6 and later, whatever its Lua (5.1 to 5.4): no bit
-- operators, no bit libraries.

set_plugin_info({
    version = "1.0",
    description = "QEMU Distributed Ethernet Switch",
})

local PORT = 20804
local MAGIC = 0x5144
local VERSION = 1
local HEADER_SIZE = 8
local SUPERFRAME_SIZE = 10      -- the header and Segment size
local FRAME_MIN, FRAME_END = 14, 65507
local CONTROL_MAX = 1200
local TLV_HEADER_SIZE = 4
local SESSION_SIZE, NUMBER_SIZE, TAG_SIZE = 8, 8, 16
local SEALED_MIN = HEADER_SIZE + SESSION_SIZE + NUMBER_SIZE + TAG_SIZE

-- QDES inside of QDES is legal, but a datagram of 64 KiB has room for more
-- than a thousand levels, and Wireshark gives up on the whole packet long
-- before that.
local MAX_NESTING = 8

local DATA, HELLO, BYE, ECHO, ECHO_REPLY, PEERS = 0, 1, 2, 3, 4, 5
local CHALLENGE, RESPONSE = 6, 7   -- sealed only
local ECHO_MIN = 96
local TYPES = {
    [0] = "DATA", [1] = "HELLO", [2] = "BYE", [3] = "ECHO",
    [4] = "ECHO-REPLY", [5] = "PEERS", [6] = "CHALLENGE", [7] = "RESPONSE",
}

local CSUM_PARTIAL, SEALED, SUPERFRAME, RELAYED = 0x01, 0x02, 0x04, 0x08
local FLAGS = {
    { CSUM_PARTIAL, "CSUM_PARTIAL" }, { SEALED, "SEALED" },
    { SUPERFRAME, "SUPERFRAME" }, { RELAYED, "RELAYED" },
}

local INSTANCE, CAPABILITIES, MTU, NAME, HOLD_TIME = 1, 2, 3, 4, 5
local TLV_PEERS, NONCE, OBSERVED, GROUP_HEARD, DIGEST = 6, 7, 8, 10, 11
local RELAY_FOR, KNOWN = 12, 13
local SESSION, KEYS, AGE, NUMBERS = 16, 17, 18, 19
local ENTRY_SIZE, INSTANCE_SIZE, BUCKETS = 26, 8, 64
local TLVS = {
    [1] = "INSTANCE", [2] = "CAPABILITIES", [3] = "MTU", [4] = "NAME",
    [5] = "HOLD-TIME", [6] = "PEERS", [7] = "NONCE", [8] = "OBSERVED",
    [9] = "PADDING", [10] = "GROUP-HEARD", [11] = "DIGEST",
    [12] = "RELAY-FOR", [13] = "KNOWN", [16] = "SESSION", [17] = "KEYS",
    [18] = "AGE", [19] = "NUMBERS",
}
-- Shortest and longest value of the TLVs that version 1 defines.
local HELLO_TLVS = {
    [INSTANCE] = { 8, 8 }, [CAPABILITIES] = { 4, 4 }, [MTU] = { 4, 4 },
    [NAME] = { 1, 63 }, [HOLD_TIME] = { 2, 2 }, [GROUP_HEARD] = { 1, 1 },
    [RELAY_FOR] = { 8, 512 }, [KEYS] = { 4, 8 },
}
local ECHO_TLVS = { [NONCE] = { 8, 8 }, [OBSERVED] = { 18, 18 } }
local PEERS_TLVS = {
    [TLV_PEERS] = { 26, 1170 }, [DIGEST] = { 256, 256 }, [KNOWN] = { 7, 906 },
}
local CHALLENGE_TLVS = {
    [NONCE] = { 8, 8 }, [SESSION] = { 8, 8 }, [AGE] = { 4, 4 },
}
local RESPONSE_TLVS = { [NONCE] = { 8, 8 }, [NUMBERS] = { 16, 16 } }
-- Those that count in each type of message, and those it cannot lack.
local TLV_LENGTHS = {
    [HELLO] = HELLO_TLVS, [BYE] = HELLO_TLVS, [ECHO] = ECHO_TLVS,
    [ECHO_REPLY] = ECHO_TLVS, [PEERS] = PEERS_TLVS,
    [CHALLENGE] = CHALLENGE_TLVS, [RESPONSE] = RESPONSE_TLVS,
}
local MANDATORY = {
    [HELLO] = { INSTANCE }, [BYE] = { INSTANCE },
    [ECHO] = { NONCE, OBSERVED }, [ECHO_REPLY] = { NONCE, OBSERVED },
    [PEERS] = {},
    [CHALLENGE] = { NONCE, SESSION, AGE }, [RESPONSE] = { NONCE, NUMBERS },
}

local qdes = Proto("qdes", "QEMU Distributed Ethernet Switch")

qdes.prefs.secret_files = Pref.string("Secret files", "",
    "Files that hold the fabric's secrets, with commas between them; with " ..
    "them, sealed datagrams are opened")
qdes.prefs.secret_netids = Pref.string("Network IDs of the secrets", "0",
    "The network IDs that the secrets are used with, such as 0,42,100-199")
qdes.prefs.port = Pref.range("UDP ports", tostring(PORT),
    "UDP ports on which every datagram is taken for QDES; on others the " ..
    "heuristic looks for it", 65535)

local f = {
    magic = ProtoField.uint16("qdes.magic", "Magic", base.HEX),
    version = ProtoField.uint8("qdes.version", "Version", base.DEC, nil,
        0xf0),
    type = ProtoField.uint8("qdes.type", "Type", base.DEC, TYPES, 0x0f),
    flags = ProtoField.uint8("qdes.flags", "Flags", base.HEX),
    flags_csum_partial = ProtoField.bool("qdes.flags.csum_partial",
        "CSUM_PARTIAL", 8, nil, 0x01,
        "The inner checksum holds the sum of the pseudo-header alone"),
    flags_sealed = ProtoField.bool("qdes.flags.sealed", "SEALED", 8, nil,
        0x02, "Encrypted and authenticated"),
    flags_superframe = ProtoField.bool("qdes.flags.superframe", "SUPERFRAME",
        8, nil, 0x04, "The frame stands for several packets"),
    flags_relayed = ProtoField.bool("qdes.flags.relayed", "RELAYED", 8, nil,
        0x08, "The sender has it from another port"),
    flags_reserved = ProtoField.uint8("qdes.flags.reserved", "Reserved",
        base.HEX, nil, 0xf0),
    netid = ProtoField.uint32("qdes.netid", "Network ID", base.DEC),

    segment_size = ProtoField.uint16("qdes.segment_size", "Segment size",
        base.DEC, nil, nil,
        "Bytes of payload in each packet of a superframe but the last"),
    frame = ProtoField.bytes("qdes.frame", "Frame", base.NONE,
        "The frame, where it is not dissected"),
    frame_length = ProtoField.uint32("qdes.frame.length", "Frame length",
        base.DEC, nil, nil, "Bytes of the frame that were sent"),

    session = ProtoField.uint64("qdes.session", "Session of the sender",
        base.HEX),
    packet_number = ProtoField.uint64("qdes.packet_number", "Packet number",
        base.DEC),
    flooded = ProtoField.bool("qdes.flooded", "Flooded", base.NONE, nil, nil,
        "To the group, or a copy of that"),
    opened_netid = ProtoField.uint32("qdes.opened.netid",
        "Network ID of the key", base.DEC, nil, nil,
        "The network ID that the pseudonym stands for"),
    ciphertext = ProtoField.bytes("qdes.ciphertext", "Ciphertext"),
    tag = ProtoField.bytes("qdes.tag", "Authentication tag"),

    tlv = ProtoField.none("qdes.tlv", "TLV"),
    tlv_type = ProtoField.uint16("qdes.tlv.type", "Type", base.DEC, TLVS),
    tlv_length = ProtoField.uint16("qdes.tlv.length", "Length", base.DEC),
    tlv_value = ProtoField.bytes("qdes.tlv.value", "Value", base.NONE,
        "The value of a TLV that is unknown or has a wrong length"),
    instance = ProtoField.uint64("qdes.instance", "Instance", base.HEX, nil,
        nil, "Drawn at random when the port starts"),
    capabilities = ProtoField.uint32("qdes.capabilities", "Capabilities",
        base.HEX),
    capabilities_csum_partial = ProtoField.bool(
        "qdes.capabilities.csum_partial", "Accepts CSUM_PARTIAL", 32, nil,
        0x00000001),
    capabilities_superframe = ProtoField.bool(
        "qdes.capabilities.superframe", "Accepts SUPERFRAME", 32, nil,
        0x00000002),
    capabilities_echo = ProtoField.bool("qdes.capabilities.echo",
        "Answers ECHO and PEERS", 32, nil, 0x00000004),
    capabilities_relay = ProtoField.bool("qdes.capabilities.relay",
        "Relays", 32, nil, 0x00000008),
    capabilities_reserved = ProtoField.uint32("qdes.capabilities.reserved",
        "Reserved", base.HEX, nil, 0xfffffff0),
    mtu = ProtoField.uint32("qdes.mtu", "MTU", base.DEC, nil, nil,
        "The longest frame that the sender accepts, in bytes"),
    name = ProtoField.string("qdes.name", "Name", base.UNICODE),
    hold_time = ProtoField.uint16("qdes.hold_time", "Hold time", base.DEC,
        nil, nil, "Seconds after which the silent sender is forgotten"),

    nonce = ProtoField.uint64("qdes.nonce", "Nonce", base.HEX),
    observed = ProtoField.ipv6("qdes.observed", "Observed address"),
    observed_port = ProtoField.uint16("qdes.observed.port", "Observed port",
        base.DEC),
    group_heard = ProtoField.uint8("qdes.group_heard", "Group heard",
        base.DEC, nil, nil,
        "Whether the receiver's HELLOs to the group reach the sender"),
    relay_for = ProtoField.uint64("qdes.relay_for", "Relay for", base.HEX,
        nil, nil, "An instance whose frames the sender wants"),
    asked_session = ProtoField.uint64("qdes.asked_session", "Session",
        base.HEX, nil, nil, "The session that a CHALLENGE asks about"),
    key_id = ProtoField.uint32("qdes.key_id", "Key ID", base.HEX, nil, nil,
        "A key that the sender accepts"),
    age = ProtoField.uint32("qdes.age", "Age", base.DEC, nil, nil,
        "Milliseconds for which the sender has forgotten nothing"),
    number_unicast = ProtoField.uint64("qdes.numbers.unicast",
        "Packet number in use, not flooded", base.DEC),
    number_flooded = ProtoField.uint64("qdes.numbers.flooded",
        "Packet number in use, flooded", base.DEC),
    digest = ProtoField.bytes("qdes.digest", "Digest", base.NONE,
        "64 buckets of 32 bits"),
    known_parts = ProtoField.uint8("qdes.known.parts", "Parts", base.DEC),
    known_part = ProtoField.uint8("qdes.known.part", "Part", base.DEC),
    known_salt = ProtoField.uint32("qdes.known.salt", "Salt", base.HEX),
    known_filter = ProtoField.bytes("qdes.known.filter", "Filter", base.NONE,
        "Whom the sender knows"),
    entry = ProtoField.none("qdes.entry", "Entry"),
    entry_address = ProtoField.ipv6("qdes.entry.address", "Address"),
    entry_port = ProtoField.uint16("qdes.entry.port", "Port", base.DEC),
    entry_instance = ProtoField.uint64("qdes.entry.instance", "Instance",
        base.HEX),

    malformed = ProtoField.string("qdes.malformed", "Malformed", base.ASCII,
        "Why a receiver drops the datagram"),
}

local fields = {}
for _, field in pairs(f) do
    fields[#fields + 1] = field
end
qdes.fields = fields

local expert_malformed = ProtoExpert.new("qdes.expert.malformed",
    "Malformed QDES datagram", expert.group.MALFORMED, expert.severity.ERROR)
local expert_odd = ProtoExpert.new("qdes.expert.odd",
    "Unusual QDES datagram", expert.group.PROTOCOL, expert.severity.NOTE)
local expert_cut = ProtoExpert.new("qdes.expert.cut",
    "Frame cut by the capture", expert.group.UNDECODED,
    expert.severity.NOTE)
qdes.experts = { expert_malformed, expert_odd, expert_cut }

-- What opens sealed datagrams: libcrypto by way of luaossl (Debian's package
-- lua-luaossl).  Without it they stay sealed, and say why.
local crypto, crypto_error
do
    local ok, cipher = pcall(require, "openssl.cipher")
    local ok_hmac, hmac = pcall(require, "openssl.hmac")
    if ok and ok_hmac then
        crypto = { cipher = cipher, hmac = hmac }
    else
        crypto_error = "opening it needs luaossl (Debian: lua-luaossl)"
    end
end

local function has_bit(value, bit)
    return value % (2 * bit) >= bit
end

local function bytes(n)
    return n == 1 and "1 byte" or string.format("%d bytes", n)
end

-- Is the range wholly in the capture?
local function captured(tvb, offset, size)
    return offset + size <= tvb:len()
end

-- Is every byte of the range 0?
local function is_zero(range)
    for i = 0, range:len() - 1 do
        if range(i, 1):uint() ~= 0 then
            return false
        end
    end
    return true
end

-- The header, or nil where the capture lacks a part of it.
local function read_header(tvb)
    if tvb:len() < HEADER_SIZE then
        return nil
    end
    return {
        magic = tvb(0, 2):uint(),
        version = tvb(2, 1):bitfield(0, 4),
        type = tvb(2, 1):bitfield(4, 4),
        flags = tvb(3, 1):uint(),
        netid = tvb(4, 4):uint(),
    }
end

-- What is wrong with the header: a result of docs/protocol.md and a text.
local function check_header(h)
    if h.magic ~= MAGIC then
        return "bad-magic", string.format("Magic is 0x%04x, not 0x%04x",
            h.magic, MAGIC)
    end
    if h.version ~= VERSION then
        return "bad-version", string.format("Version is %d, not %d",
            h.version, VERSION)
    end
    if h.type > (has_bit(h.flags, SEALED) and RESPONSE or PEERS) then
        return "bad-type", string.format("Type %d (%s) is not defined in " ..
            "version %d", h.type, TYPES[h.type] or "unassigned", VERSION)
    end
    if h.flags > CSUM_PARTIAL + SEALED + SUPERFRAME + RELAYED then
        return "bad-flags", string.format("Reserved flags are set: 0x%02x",
            h.flags)
    end
    if has_bit(h.flags, CSUM_PARTIAL) and h.type ~= DATA then
        return "bad-flags", "CSUM_PARTIAL is for DATA only"
    end
    if has_bit(h.flags, RELAYED) and h.type ~= DATA then
        return "bad-flags", "RELAYED is for DATA only"
    end
    if has_bit(h.flags, SUPERFRAME) and not has_bit(h.flags, CSUM_PARTIAL)
    then
        return "bad-flags", "SUPERFRAME is only for DATA with CSUM_PARTIAL"
    end
    return nil
end

-- Where the frame of DATA begins.
local function frame_offset(h)
    return has_bit(h.flags, SUPERFRAME) and SUPERFRAME_SIZE or HEADER_SIZE
end

-- Go through the TLVs of a control message.  Returns a list of them; if the
-- message is malformed, the text and the TLV that it is about (nil: the whole
-- message); and whether the capture ends before the message does, so that not
-- everything could be checked.
local function read_tlvs(tvb, type)
    local size = tvb:reported_len()
    local lengths = TLV_LENGTHS[type]
    local list, seen = {}, {}
    local offset = HEADER_SIZE
    local text, culprit

    local function wrong(what, tlv)
        if not text then
            text, culprit = what, tlv
        end
    end

    if size > CONTROL_MAX then
        wrong(string.format("A control message of %d bytes; the limit is %d",
            size, CONTROL_MAX))
    end
    if type == ECHO and size < ECHO_MIN then
        wrong(string.format("An ECHO of %d bytes; it has %d at least", size,
            ECHO_MIN))
    end
    while offset < size do
        local left = size - offset
        if not captured(tvb, offset, math.min(left, TLV_HEADER_SIZE)) then
            return list, text, culprit, true
        end
        local tlv = { offset = offset, size = left }
        list[#list + 1] = tlv
        if left < TLV_HEADER_SIZE then
            wrong(bytes(left) .. " left, too few for a TLV", tlv)
            break
        end
        left = left - TLV_HEADER_SIZE
        tlv.type = tvb(offset, 2):uint()
        tlv.length = tvb(offset + 2, 2):uint()
        local name = TLVS[tlv.type] or string.format("TLV %d", tlv.type)
        if tlv.length > left then
            wrong(string.format("%s has Length %d, but %s left", name,
                tlv.length, bytes(left)), tlv)
            break
        end
        tlv.size = TLV_HEADER_SIZE + tlv.length
        if lengths[tlv.type] then
            if seen[tlv.type] then
                wrong(name .. " comes twice", tlv)
            end
            seen[tlv.type] = true
            tlv.sound = tlv.length >= lengths[tlv.type][1] and
                tlv.length <= lengths[tlv.type][2] and
                (tlv.type ~= TLV_PEERS or tlv.length % ENTRY_SIZE == 0) and
                (tlv.type ~= RELAY_FOR or tlv.length % INSTANCE_SIZE == 0) and
                (tlv.type ~= KEYS or tlv.length % 4 == 0)
            if not tlv.sound then
                wrong(string.format("%s has Length %d", name, tlv.length),
                    tlv)
            elseif tlv.type == INSTANCE and captured(tvb, offset, tlv.size)
                and is_zero(tvb(offset + TLV_HEADER_SIZE, tlv.length)) then
                wrong("INSTANCE is 0", tlv)
            end
        end
        offset = offset + tlv.size
    end
    for _, needed in ipairs(MANDATORY[type]) do
        if not seen[needed] then
            wrong(TLVS[needed] .. " is missing")
        end
    end
    if type == PEERS and not seen[TLV_PEERS] == not seen[DIGEST] then
        wrong(seen[DIGEST] and "PEERS and DIGEST in one message" or
            "neither PEERS nor DIGEST")
    elseif seen[KNOWN] and not seen[DIGEST] then
        wrong("KNOWN without DIGEST")
    end
    return list, text, culprit, tvb:len() < size
end

-- A name as docs/protocol.md wants it shown: what is not well-formed UTF-8,
-- and each control character, becomes "?".  Also fit for Lua's strings and
-- Wireshark's columns.
local SEQUENCES = {
    -- first byte from, to; second byte from, to; length
    { 0x20, 0x7e, 0, 0, 1 },
    { 0xc2, 0xdf, 0x80, 0xbf, 2 },
    { 0xe0, 0xe0, 0xa0, 0xbf, 3 },
    { 0xe1, 0xec, 0x80, 0xbf, 3 },
    { 0xed, 0xed, 0x80, 0x9f, 3 },
    { 0xee, 0xef, 0x80, 0xbf, 3 },
    { 0xf0, 0xf0, 0x90, 0xbf, 4 },
    { 0xf1, 0xf3, 0x80, 0xbf, 4 },
    { 0xf4, 0xf4, 0x80, 0x8f, 4 },
}

local function sequence_at(raw, i)
    local first, second = raw:byte(i, i + 1)
    for _, s in ipairs(SEQUENCES) do
        if first >= s[1] and first <= s[2] then
            if s[5] == 1 then
                return 1
            end
            if i + s[5] - 1 > #raw or second < s[3] or second > s[4] then
                return 0
            end
            for k = i + 2, i + s[5] - 1 do
                local byte = raw:byte(k)
                if byte < 0x80 or byte > 0xbf then
                    return 0
                end
            end
            return s[5]
        end
    end
    return 0
end

local function clean_name(range)
    local raw, out, i = range:raw(), {}, 1
    while i <= #raw do
        local size = sequence_at(raw, i)
        local first, second = raw:byte(i, i + 1)
        if size == 0 or (first == 0xc2 and second < 0xa0) then
            out[#out + 1] = "?"
        else
            out[#out + 1] = raw:sub(i, i + size - 1)
        end
        i = i + math.max(size, 1)
    end
    return table.concat(out)
end

local function add_malformed(tree, item, result, text)
    tree:add(f.malformed, result):set_generated()
    item:add_proto_expert_info(expert_malformed,
        string.format("%s: %s", result, text))
end

-- Behind another magic, or in another version, the rest means nothing.
local function add_header(tree, tvb, h)
    tree:add(f.magic, tvb(0, 2))
    if h.magic ~= MAGIC then
        return
    end
    tree:add(f.version, tvb(2, 1))
    if h.version ~= VERSION then
        return
    end
    tree:add(f.type, tvb(2, 1))
    local flags = tree:add(f.flags, tvb(3, 1))
    flags:add(f.flags_csum_partial, tvb(3, 1))
    flags:add(f.flags_sealed, tvb(3, 1))
    flags:add(f.flags_superframe, tvb(3, 1))
    flags:add(f.flags_relayed, tvb(3, 1))
    flags:add(f.flags_reserved, tvb(3, 1))
    local names = {}
    for _, flag in ipairs(FLAGS) do
        if has_bit(h.flags, flag[1]) then
            names[#names + 1] = flag[2]
        end
    end
    if #names > 0 then
        flags:append_text(" (" .. table.concat(names, ", ") .. ")")
    end
    tree:add(f.netid, tvb(4, 4))
end

-- An endpoint as people write it; IPv4 is v4-mapped.
local function endpoint_text(range)
    local port = range(16, 2):uint()
    if is_zero(range(0, 10)) and range(10, 2):uint() == 0xffff then
        return string.format("%s:%d", tostring(range(12, 4):ipv4()), port)
    end
    return string.format("[%s]:%d", tostring(range(0, 16):ipv6()), port)
end

-- The value of one TLV, and what to say of it in the headings.
local function add_value(tree, tlv, value)
    if not tlv.sound then
        tree:add(f.tlv_value, value)
        return bytes(value:len())
    end
    if tlv.type == INSTANCE then
        tree:add(f.instance, value)
        return value:bytes():tohex(true)
    elseif tlv.type == CAPABILITIES then
        local item = tree:add(f.capabilities, value)
        item:add(f.capabilities_csum_partial, value)
        item:add(f.capabilities_superframe, value)
        item:add(f.capabilities_echo, value)
        item:add(f.capabilities_relay, value)
        item:add(f.capabilities_reserved, value)
        return string.format("0x%08x", value:uint())
    elseif tlv.type == MTU then
        tree:add(f.mtu, value)
        return tostring(value:uint())
    elseif tlv.type == NAME then
        local name = clean_name(value)
        tree:add(f.name, value, name)
        return name
    elseif tlv.type == NONCE then
        tree:add(f.nonce, value)
        return value:bytes():tohex(true)
    elseif tlv.type == OBSERVED then
        tree:add(f.observed, value(0, 16))
        tree:add(f.observed_port, value(16, 2))
        return endpoint_text(value)
    elseif tlv.type == SESSION then
        tree:add(f.asked_session, value)
        return value:bytes():tohex(true)
    elseif tlv.type == KEYS then
        for at = 0, value:len() - 4, 4 do
            tree:add(f.key_id, value(at, 4))
        end
        return value:bytes():tohex(true)
    elseif tlv.type == AGE then
        tree:add(f.age, value):append_text(" ms")
        return string.format("%d ms", value:uint())
    elseif tlv.type == NUMBERS then
        tree:add(f.number_unicast, value(0, 8))
        tree:add(f.number_flooded, value(8, 8))
        return string.format("%s, %s", tostring(value(0, 8):uint64()),
            tostring(value(8, 8):uint64()))
    elseif tlv.type == GROUP_HEARD then
        tree:add(f.group_heard, value)
        return value:uint() == 0 and "no" or "yes"
    elseif tlv.type == RELAY_FOR then
        for at = 0, value:len() - INSTANCE_SIZE, INSTANCE_SIZE do
            tree:add(f.relay_for, value(at, INSTANCE_SIZE))
        end
        return string.format("%d instances", value:len() / INSTANCE_SIZE)
    elseif tlv.type == DIGEST then
        tree:add(f.digest, value)
        return string.format("%d buckets", BUCKETS)
    elseif tlv.type == KNOWN then
        tree:add(f.known_parts, value(0, 1))
        tree:add(f.known_part, value(1, 1))
        tree:add(f.known_salt, value(2, 4))
        tree:add(f.known_filter, value(6))
        return string.format("part %d of %d", value(1, 1):uint(),
            value(0, 1):uint())
    elseif tlv.type == TLV_PEERS then
        for at = 0, value:len() - ENTRY_SIZE, ENTRY_SIZE do
            local range = value(at, ENTRY_SIZE)
            local item = tree:add(f.entry, range)
            item:add(f.entry_address, range(0, 16))
            item:add(f.entry_port, range(16, 2))
            item:add(f.entry_instance, range(18, 8))
            item:set_text(endpoint_text(range))
        end
        return string.format("%d entries", value:len() / ENTRY_SIZE)
    end
    tree:add(f.hold_time, value):append_text(" s")
    return string.format("%d s", value:uint())
end

-- Returns what the info column is to say of each type of TLV.
local function add_tlvs(tree, tvb, list)
    local info = {}

    for _, tlv in ipairs(list) do
        local size = math.min(tlv.size, tvb:len() - tlv.offset)
        local range = tvb(tlv.offset, size)
        if not tlv.type then
            tlv.item = tree:add(f.tlv_value, range)
            break
        end
        tlv.item = tree:add(f.tlv, range)
        tlv.item:set_text(TLVS[tlv.type] or
            string.format("Unknown %d", tlv.type))
        tlv.item:add(f.tlv_type, range(0, 2))
        tlv.item:add(f.tlv_length, range(2, 2))
        if size < tlv.size then
            tlv.item:append_text(" (cut by the capture)")
        elseif size > TLV_HEADER_SIZE then
            local text = add_value(tlv.item, tlv, range(TLV_HEADER_SIZE))
            tlv.item:append_text(": " .. text)
            if tlv.sound then
                info[tlv.type] = info[tlv.type] or text
            end
        end
    end
    return info
end

local function show_control(tvb, pinfo, tree, h)
    local list, text, culprit = read_tlvs(tvb, h.type)
    local info = add_tlvs(tree, tvb, list)
    local column = TYPES[h.type]
    if info[NAME] then
        column = column .. " name=" .. info[NAME]
    end
    column = column .. string.format(" netid=%d", h.netid)
    if info[MTU] then
        column = column .. " mtu=" .. info[MTU]
    end
    if info[INSTANCE] then
        column = column .. " instance=" .. info[INSTANCE]
    end
    for _, type in ipairs({ NONCE, OBSERVED, TLV_PEERS, DIGEST, KNOWN,
                            SESSION, AGE, NUMBERS }) do
        if info[type] then
            column = column .. string.format(" %s=%s",
                string.lower(TLVS[type]), info[type])
        end
    end
    pinfo.cols.info = column
    if text then
        add_malformed(tree, culprit and culprit.item or tree, "bad-tlv",
            text)
        pinfo.cols.info:append(" [Malformed: " .. text .. "]")
    end
end

-- HKDF-Expand (RFC 5869) with SHA-256, two blocks at most.
local function expand(key, info, size)
    local first = crypto.hmac.new(key, "sha256"):final(info .. "\1")
    if size <= 32 then
        return first:sub(1, size)
    end
    local second = crypto.hmac.new(key, "sha256"):final(
        first .. info .. "\2")
    return (first .. second):sub(1, size)
end

local function be32(number)
    return string.char(math.floor(number / 0x1000000) % 256,
        math.floor(number / 0x10000) % 256,
        math.floor(number / 0x100) % 256, number % 256)
end

-- Pseudonym -> { netid, network key, session -> key and IV }
local keys = {}
local keys_text             -- what they were read of
local keys_error

local MAX_NETIDS = 65536

-- Call FUNC with each network ID of a text such as "0,42,100-199".
local function each_netid(text, func)
    local left = MAX_NETIDS
    for part in text:gmatch("[^,%s]+") do
        local first, last = part:match("^(%d+)%-?(%d*)$")
        first, last = tonumber(first), tonumber(last) or tonumber(first)
        if not first or last > 0xffffffff or first > last then
            return string.format("\"%s\" is no network ID", part)
        end
        left = left - (last - first + 1)
        if left < 0 then
            return string.format("more than %d network IDs", MAX_NETIDS)
        end
        for netid = first, last do
            func(netid)
        end
    end
end

local function read_keys()
    local text = qdes.prefs.secret_files .. "\n" .. qdes.prefs.secret_netids
    if text == keys_text then
        return
    end
    keys, keys_text, keys_error = {}, text, nil
    if not crypto then
        return
    end
    for name in qdes.prefs.secret_files:gmatch("[^,]+") do
        name = name:match("^%s*(.-)%s*$")
        local file, why = io.open(name, "rb")
        if not file then
            keys_error = why
        else
            local secret = file:read("*a"):gsub("\n$", "")
            file:close()
            local prk = crypto.hmac.new("QDES sealed fabric, version 1",
                "sha256"):final(secret)
            local wrong = each_netid(qdes.prefs.secret_netids,
                function(netid)
                    local network = expand(prk, "qdes network" ..
                        be32(netid), 32)
                    keys[expand(network, "qdes pseudonym", 4)] = {
                        netid = netid, network = network, sessions = {},
                    }
                end)
            keys_error = keys_error or wrong
        end
    end
end

local function xor_byte(a, b)
    local out, bit = 0, 1
    while bit < 256 do
        if a % (2 * bit) >= bit ~= (b % (2 * bit) >= bit) then
            out = out + bit
        end
        bit = bit * 2
    end
    return out
end

-- The payload of a sealed datagram that is wholly in the capture.  That the
-- key is right, the pseudonym has shown; whether somebody changed the
-- datagram is not checked, since luaossl has no way to do so.
local function open(key, tvb)
    local session = tvb:raw(HEADER_SIZE, SESSION_SIZE)
    local number = tvb:raw(HEADER_SIZE + SESSION_SIZE, NUMBER_SIZE)
    local both = key.sessions[session]
    if not both then
        both = expand(key.network, "qdes session" .. session, 44)
        key.sessions[session] = both
    end
    local nonce = {}
    for i = 1, 12 do
        local byte = both:byte(32 + i)
        nonce[i] = string.char(i <= 4 and byte or
            xor_byte(byte, number:byte(i - 4)))
    end
    local cipher = crypto.cipher.new(session:byte(8) % 2 == 1 and
        "chacha20-poly1305" or "aes-256-gcm")
    cipher:decrypt(both:sub(1, 32), table.concat(nonce))
    local size = tvb:len() - SEALED_MIN
    return size > 0 and cipher:update(tvb:raw(HEADER_SIZE + SESSION_SIZE +
        NUMBER_SIZE, size)) or ""
end

-- The datagram as it was before it was sealed, or nil and why not.
local function unseal(tvb, h)
    read_keys()
    local key = keys[tvb:raw(4, 4)]
    if qdes.prefs.secret_files == "" then
        return nil
    elseif not crypto then
        return nil, crypto_error
    elseif not key then
        return nil, keys_error or "none of the secrets, with the network " ..
            "IDs in the preferences, opens it"
    elseif tvb:len() < tvb:reported_len() then
        return nil, "the capture holds only a part of it"
    end
    local plain = tvb:raw(0, 3) .. string.char(h.flags - SEALED) ..
        be32(key.netid) .. open(key, tvb)
    return ByteArray.new(plain, true):tvb("Unsealed QDES"), key.netid
end

-- Adds what can be seen of it; returns the plain datagram if there is a key.
local function show_sealed(tvb, pinfo, tree, h)
    local size, offset = tvb:reported_len(), HEADER_SIZE
    local cipher_size = size - SEALED_MIN

    pinfo.cols.info = string.format("%s sealed netid=%d, %s",
        TYPES[h.type], h.netid, bytes(size))
    if cipher_size < 0 then
        if tvb:len() > HEADER_SIZE then
            tree:add(f.ciphertext, tvb(HEADER_SIZE))
        end
        tree:add_proto_expert_info(expert_odd, string.format(
            "A sealed datagram has %d bytes at least, this one %s",
            SEALED_MIN, bytes(size)))
        return nil
    end
    for _, part in ipairs({ { f.session, SESSION_SIZE },
                            { f.packet_number, NUMBER_SIZE },
                            { f.ciphertext, cipher_size },
                            { f.tag, TAG_SIZE } }) do
        if part[2] > 0 then
            if not captured(tvb, offset, part[2]) then
                break
            end
            if part[1] == f.packet_number then
                -- Its first bit tells the kind.
                local range = tvb(offset, NUMBER_SIZE)
                tree:add(f.flooded, range(0, 1), range(0, 1):uint() >= 0x80)
                tree:add(f.packet_number, range, UInt64.new(
                    range(4, 4):uint(), range(0, 4):uint() % 0x80000000))
            else
                tree:add(part[1], tvb(offset, part[2]))
            end
            offset = offset + part[2]
        end
    end
    local plain, about = unseal(tvb, h)
    if plain then
        tree:add(f.opened_netid, about):set_generated()
    elseif about then
        tree:add_proto_expert_info(expert_odd, "Sealed: " .. about)
    end
    return plain
end

local ethernet = Dissector.get("eth_withoutfcs")

local function show_data(tvb, pinfo, tree, root, h)
    local offset = frame_offset(h)
    -- Negative where even Segment size is not whole.
    local size = math.max(tvb:reported_len() - offset, 0)
    local held = math.max(tvb:len() - offset, 0)

    if offset == SUPERFRAME_SIZE and captured(tvb, HEADER_SIZE, 2) then
        tree:add(f.segment_size, tvb(HEADER_SIZE, 2))
    end
    tree:add(f.frame_length, size):set_generated()
    pinfo.cols.info = string.format("DATA netid=%d, %s of %s", h.netid,
        offset == SUPERFRAME_SIZE and "superframe" or "frame", bytes(size))
    if size < FRAME_MIN or offset + size > FRAME_END then
        local item = tree
        local text = string.format("A frame of %s; %d to %d are allowed",
            bytes(size), FRAME_MIN, FRAME_END - offset)
        if tvb:reported_len() < offset then
            text = "Segment size is not whole"
        elseif held > 0 then
            item = tree:add(f.frame, tvb(offset))
        end
        add_malformed(tree, item,
            size < FRAME_MIN and "frame-short" or "frame-long", text)
        pinfo.cols.info:append(" [Malformed]")
        return
    end
    if held < size then
        -- Lua cannot hand on how long the frame was, so that the protocols
        -- inside may call malformed what is only cut.
        tree:add_proto_expert_info(expert_cut, string.format(
            "The capture holds %d of the frame's %s", held, bytes(size)))
    end
    if held < FRAME_MIN then
        if held > 0 then
            tree:add(f.frame, tvb(offset))
        end
        return
    end
    local level = tonumber(pinfo.private.qdes_level or 1)
    if level > MAX_NESTING then
        tree:add(f.frame, tvb(offset)):add_proto_expert_info(expert_odd,
            string.format("QDES in QDES, level %d: not dissected further",
                level))
        return
    end
    pinfo.private.qdes_level = tostring(level + 1)
    -- Fails when a dissector inside gives up; that is in the tree by then.
    pcall(function()
        ethernet:call(tvb(offset):tvb(), pinfo, root)
    end)
    pinfo.private.qdes_level = tostring(level)
end

local function dissect(tvb, pinfo, root)
    local size = tvb:reported_len()
    local h = read_header(tvb)
    local tree = root:add(qdes, tvb())

    pinfo.cols.protocol = "QDES"
    if size < HEADER_SIZE then
        local text = string.format("%s; the header has %d", bytes(size),
            HEADER_SIZE)
        add_malformed(tree, tree, "short", text)
        pinfo.cols.info = "[Malformed: " .. text .. "]"
        return tvb:len()
    end
    if not h then
        pinfo.cols.info = "[Header cut by the capture]"
        return tvb:len()
    end
    add_header(tree, tvb, h)
    local result, text = check_header(h)
    if result then
        add_malformed(tree, tree, result, text)
        pinfo.cols.info = "[Malformed: " .. text .. "]"
        return tvb:len()
    end
    tree:append_text(string.format(", %s, Network ID: %d", TYPES[h.type],
        h.netid))
    local plain = tvb
    if has_bit(h.flags, SEALED) then
        plain = show_sealed(tvb, pinfo, tree, h)
        if not plain then
            return tvb:len()
        end
        h = read_header(plain)
    end
    if h.type == DATA then
        if plain == tvb then
            tree:set_len(math.min(frame_offset(h), tvb:len()))
        end
        show_data(plain, pinfo, tree, root, h)
    else
        show_control(plain, pinfo, tree, h)
    end
    if plain ~= tvb then
        pinfo.cols.info:append(" [Sealed]")
    end
    return tvb:len()
end

qdes.dissector = dissect

-- QDES on other ports: nothing that a receiver would drop is taken, so that
-- no other protocol's datagram is.
local function heuristic(tvb, pinfo, root)
    local size = tvb:reported_len()
    local h = read_header(tvb)

    if not h or check_header(h) then
        return false
    end
    if has_bit(h.flags, SEALED) then
        if size < SEALED_MIN then
            return false
        end
    elseif h.type == DATA then
        if size < frame_offset(h) + FRAME_MIN or size > FRAME_END then
            return false
        end
    else
        local _, text, _, cut = read_tlvs(tvb, h.type)
        if text or cut then
            return false
        end
    end
    dissect(tvb, pinfo, root)
    return true
end

local udp_ports = DissectorTable.get("udp.port")
local registered

local function register_ports()
    if registered == qdes.prefs.port then
        return
    end
    if registered and registered ~= "" then
        udp_ports:remove(registered, qdes)
    end
    registered = qdes.prefs.port
    if registered ~= "" then
        udp_ports:add(registered, qdes)
    end
end

qdes.prefs_changed = register_ports
register_ports()
qdes:register_heuristic("udp", heuristic)
