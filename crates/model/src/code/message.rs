//! Codes of financial messages (area F): framing, ISO 8583, EMV TLV and the specs of dialects.

super::codes! {
    FRAME = "MOAT-F001", 400, Peer,
        en: "The length in front of a message is malformed or too large", "Use the framing of the listener; no message is longer than 65,535 bytes.",
        zh: "消息前的长度格式错误或过大", "请使用监听器所定的成帧方式；消息不超过 65,535 字节。";
    TOO_LONG = "MOAT-F002", 413, Peer,
        en: "The message or one of its values is longer than allowed", "Keep a message below 65,536 bytes and each field within its spec.",
        zh: "消息或其中的值超过允许的长度", "消息须小于 65,536 字节，各字段须符合其规格。";
    TRUNCATED = "MOAT-F003", 400, Peer,
        en: "The message ends inside a field", "Send the message whole; if it is, its dialect differs from the spec: the field named is where they part.",
        zh: "消息在字段中间结束", "请发送完整消息；若消息完整，则其方言与规格不符，分歧始于所指字段。";
    TRAILING = "MOAT-F004", 400, Peer,
        en: "Bytes follow the last field of the message", "Send nothing after the last field that the bitmap names.",
        zh: "消息最后一个字段之后仍有数据", "位图所示最后一个字段之后不得再有数据。";
    MTI = "MOAT-F005", 400, Peer,
        en: "The message type is not one of ISO 8583", "Send four digits: version 0, 1, 2, 8 or 9, class 1 to 8, function 0 to 7, origin 0 to 5.",
        zh: "消息类型不属于 ISO 8583", "请发送四位数字：版本 0、1、2、8 或 9，类别 1 至 8，功能 0 至 7，来源 0 至 5。";
    BITMAP = "MOAT-F006", 400, Peer,
        en: "The bitmap is malformed", "Send 8 bytes, or 16 hexadecimal characters, as the spec says.",
        zh: "位图格式错误", "请按规格发送 8 个字节或 16 个十六进制字符。";
    UNKNOWN_FIELD = "MOAT-F007", 400, Peer,
        en: "The bitmap names a field that the spec does not have", "Leave the field out, or add it to the spec: without a rule its length is not known.",
        zh: "位图指示了规格中没有的字段", "请去掉该字段，或将其加入规格：没有规则便无从得知其长度。";
    FIELD_LENGTH = "MOAT-F008", 400, Peer,
        en: "The length of a field is malformed or outside its spec", "Write the length in the encoding and unit of the spec, no more than its maximum.",
        zh: "字段长度格式错误或超出规格", "请按规格的编码与单位书写长度，且不超过上限。";
    CHARACTERS = "MOAT-F009", 400, Peer,
        en: "A field holds a character that its kind does not allow", "Send digits in n, letters in a, and so on; pad odd BCD with 0 or F.",
        zh: "字段含有其类型不允许的字符", "n 类只含数字，a 类只含字母，依此类推；奇数位 BCD 以 0 或 F 填充。";
    VALUE = "MOAT-F010", 422, Peer,
        en: "A value does not fit where it is to be read or written", "Give a value of the field's kind and length, fields in ascending order, bitmaps left alone.",
        zh: "值与读取或写入之处不符", "请给出符合字段类型与长度的值，字段按升序排列，且不要写位图。";
    TLV = "MOAT-F011", 400, Peer,
        en: "The TLV data are malformed", "Send BER-TLV with tags of at most three bytes and definite lengths that end within the field (EMV Book 3, Annex B).",
        zh: "TLV 数据格式错误", "请发送 BER-TLV：标签至多三字节，长度为定长形式且不越出字段（EMV Book 3 附录 B）。";
    TLV_LIMIT = "MOAT-F012", 400, Peer,
        en: "The TLV data are nested too deep or have too many objects", "Nest templates at most four deep, and send at most 64 objects.",
        zh: "TLV 嵌套过深或对象过多", "模板至多嵌套四层，对象至多 64 个。";
    HEADER = "MOAT-F013", 400, Peer,
        en: "The header in front of the message is not the one of its spec", "Send the header that the spec names, with the length of the whole message where it has one.",
        zh: "消息前的报文头与规格不符", "请发送规格所定的报文头；其中若有总长度，须与整个消息一致。";
    PARTS = "MOAT-F014", 400, Peer,
        en: "A composite field does not consist of its parts", "Send the parts in the order, with the tags or the bitmap that the spec has.",
        zh: "复合字段与其组成部分不符", "请按规格所定的顺序、标签或位图发送各组成部分。";
    SPEC_SYNTAX = "MOAT-F020", 0, Operator,
        en: "The spec of a dialect cannot be read", "Correct the place shown; docs/messages.md has the keys.",
        zh: "无法读取方言规格", "请修正所示位置；各键见 docs/messages.md。";
    SPEC_FIELD = "MOAT-F021", 0, Operator,
        en: "The spec of a dialect contradicts itself", "Change the field named as the message says.",
        zh: "方言规格自相矛盾", "请按提示修改所指字段。";
    XML = "MOAT-F030", 400, Peer,
        en: "The document is not well-formed XML in UTF-8", "Send one root element in UTF-8, with text only where no elements are.",
        zh: "文档不是格式良好的 UTF-8 XML", "请发送 UTF-8 编码、只有一个根元素的 XML，文本不得与元素混排。";
    XML_REFUSED = "MOAT-F031", 400, Peer,
        en: "The document uses what messages may not use", "Send no document type, no entity but the five of XML, no processing instruction, no comment inside a value.",
        zh: "文档使用了报文不允许的 XML 特性", "不得含文档类型、XML 五个预定义以外的实体、处理指令，值内不得有注释。";
    FACET = "MOAT-F032", 422, Peer,
        en: "A value does not look as its type says", "Check amounts (decimals of the currency, no sign, no exponent), dates, BIC, IBAN, LEI and UETR at the place given.",
        zh: "值与其类型不符", "请检查所指位置的金额（小数位依货币，无符号、无指数）、日期、BIC、IBAN、LEI 或 UETR。";
    XML_LIMIT = "MOAT-F033", 413, Peer,
        en: "The document is larger or deeper than allowed", "Keep below 16 MiB, 64 levels, 32 attributes an element, 1 MiB a text and 10,000 transactions.",
        zh: "文档过大或过深", "须小于 16 MiB、64 层、每元素 32 个属性、每段文本 1 MiB、10,000 笔交易。";
    ASN1 = "MOAT-F040", 400, Peer,
        en: "The data are not ASN.1 in DER or BER", "Send lengths, integers, booleans and sets as X.690 asks for, and nothing after the last value.",
        zh: "数据不是 DER 或 BER 编码的 ASN.1", "长度、整数、布尔值与集合须符合 X.690，末尾不得有多余数据。";
    ASN1_LIMIT = "MOAT-F041", 413, Peer,
        en: "The ASN.1 data are larger or deeper than allowed", "Keep below 16 MiB and 32 levels, and tag numbers up to 2,147,483,648.",
        zh: "ASN.1 数据过大或过深", "须小于 16 MiB、32 层，标签号不超过 2,147,483,648。";
    NO_ROUTE = "MOAT-F050", 404, Peer,
        en: "No route takes messages of this type", "Send what the listener's routes take; `match.messages` and `match.processing` name it.",
        zh: "没有路由接收此类消息", "请发送监听器路由所接收的消息；见 `match.messages` 与 `match.processing`。";
    UNDER_WAY = "MOAT-F051", 409, Peer,
        en: "The same message is under way", "Wait for its answer; send the repeat only after that time is over.",
        zh: "同一消息正在处理中", "请等待其应答，超时之后再发送重发消息。";
    DUPLICATE = "MOAT-F052", 409, Peer,
        en: "The keys of the message were used before", "Give each message a trace number of its own; send again only the same message, marked as a repeat.",
        zh: "消息的关联键已被使用", "每条消息须有自己的跟踪号；重发时内容须相同，并以重发类型标明。";
    UNMATCHED = "MOAT-F053", 502, Upstream,
        en: "An answer belongs to no request", "It came too late, twice, or with other keys than its request: compare `match_on` with the network's manual.",
        zh: "应答找不到对应的请求", "可能迟到、重复，或关联键与请求不同：请将 `match_on` 与网络手册核对。";
    WINDOW = "MOAT-F054", 503, Upstream,
        en: "Too many messages wait for their answers", "Send again later; nothing was sent on. Raise `in_flight_max` if the service can take more.",
        zh: "等待应答的消息过多", "请稍后重发，消息并未转出。若服务能承受更多，可提高 `in_flight_max`。";
    NOT_ASKED = "MOAT-F055", 400, Peer,
        en: "An answer came where requests are expected", "Send requests and advices to the listener; it asks nothing itself.",
        zh: "在应为请求之处收到了应答", "请只向监听器发送请求与通知；它自身不发起请求。";
    NO_ORIGINAL = "MOAT-F056", 422, Peer,
        en: "A reversal does not name its original", "Send the original data elements in field 90.",
        zh: "冲正未指明原交易", "请在第 90 域填写原始数据元。";
    SLOW = "MOAT-F057", 408, Peer,
        en: "A message did not come whole in time, or its answer was not read", "Send each message in one go and read what is answered; `message_ms` and `unread_ms` are the bounds.",
        zh: "消息未及时完整到达，或应答未被读取", "请一次性发送整条消息并读取应答；时限为 `message_ms` 与 `unread_ms`。";
    JSON = "MOAT-F058", 422, Peer,
        en: "The JSON is not the form of a message", "Send `mti` and `fields`: names or numbers of fields, values as text, binary as {\"hex\": …}, TLV as a list.",
        zh: "JSON 不是消息的规定形式", "请提供 `mti` 与 `fields`：字段名或编号，值为文本，二进制为 {\"hex\": …}，TLV 为列表。";
}
