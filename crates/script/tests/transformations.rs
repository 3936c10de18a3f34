//! Every transformation with the results that the documentation of the language promises.

use crate::common;

use common::lines;

/// What `$(var(x){...})` prints for a text.
fn on(text: &str, chain: &str) -> String {
    let quoted = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let quoted = quoted.replace('\r', "\\r").replace('\t', "\\t");
    said(&format!("$var(x) = \"{quoted}\";"), chain)
}

fn said(setup: &str, chain: &str) -> String {
    let all = lines(&format!("{setup}\nxlog(\"L_INFO\", \"$(var(x){chain})\");"));
    all.last().map(|l| l.trim_start_matches("[3] ").to_owned()).unwrap_or_default()
}

const NULL: &str = "<null>";

fn table(rows: &[(&str, &str, &str)]) {
    for (text, chain, wanted) in rows {
        assert_eq!(on(text, chain), *wanted, "{text} {chain}");
    }
}

#[test]
fn parts_of_texts() {
    table(&[
        ("abc", "{s.len}", "3"),
        ("2868.12 sec", "{s.int}", "2868"),
        ("none", "{s.int}", "0"),
        ("-7x", "{s.int}", "-7"),
        ("onetwothree", "{s.reverse}", "eerhtowteno"),
        ("abcd", "{s.substr,1,0}", "bcd"),
        ("abcd", "{s.substr,1,2}", "bc"),
        ("abcd", "{s.substr, -3, 2}", "bc"),
        ("abcd", "{s.substr,-1,0}", "d"),
        ("abcd", "{s.substr,1,99}", "bcd"),
        ("abcd", "{s.substr,0,-1}", "abc"),
        ("abcd", "{s.substr,9,1}", NULL),
        ("12,34,56", "{s.select,1,,}", "34"),
        ("12,34,56", "{s.select,-2,,}", "34"),
        ("12,34,56", "{s.select,3,,}", NULL),
        ("12,,56", "{s.select,1,,}", ""),
        ("m=audio 49170 RTP/AVP 0", "{s.select,1, }", "49170"),
        ("udp:10.0.0.1:5060", "{s.select,1,:}", "10.0.0.1"),
        ("AbC", "{s.tolower}", "abc"),
        ("AbC", "{s.toupper}", "ABC"),
        ("\t \n input string  \r  ", "{s.trim}", "input string"),
        ("\t \n input string  \r  ", "{s.trimr}{s.len}", "16"),
        ("\t \n input string  \r  ", "{s.triml}{s.len}", "17"),
        ("transformation", "{s.width,14}", "transformation"),
        ("transformation", "{s.width, 9}", "transform"),
        ("transformation", "{s.width, 16}{s.len}", "16"),
    ]);
}

#[test]
fn places_in_texts_and_padding() {
    let text = "onetwothreeone";
    for (chain, wanted) in [
        ("{s.index, $var(s)}", "0"),
        ("{s.index, $var(s), 0}", "0"),
        ("{s.index, $var(s), 3}", "11"),
        ("{s.index, $var(s), -11}", "11"),
        ("{s.index, $var(s), -25}", "11"),
        ("{s.index, four}", NULL),
        ("{s.index,two}", "3"),
        ("{s.rindex, $var(s)}", "11"),
        ("{s.rindex, $var(s), -3}", "11"),
        ("{s.rindex, $var(s), 11}", "11"),
        ("{s.rindex, $var(s), -4}", "0"),
        ("{s.rindex, four}", NULL),
    ] {
        let setup = format!("$var(x) = \"{text}\"; $var(s) = \"one\";");
        assert_eq!(said(&setup, chain), wanted, "{chain}");
    }
    table(&[
        ("485", "{s.fill.left, 0, 3}", "485"),
        ("485", "{s.fill.left, 0, 6}", "000485"),
        ("485", "{s.fill.left, abc, 8}", "bcabc485"),
        ("485", "{s.fill.right, 0, 6}", "485000"),
        ("485", "{s.fill.right, abc, 8}", "485abcab"),
        ("485", "{s.fill.left, ab, 2}", "485"),
    ]);
    assert_eq!(said("$var(x) = 485;", "{s.fill.right, 0, 6}"), "485000");
}

#[test]
fn numbers_and_encodings() {
    table(&[
        ("255", "{s.dec2hex}", "ff"),
        ("ff", "{s.hex2dec}", "255"),
        ("0xFF", "{s.hex2dec}", "255"),
        ("ffffffff", "{s.hex2dec}", "4294967295"),
        ("zz", "{s.hex2dec}", NULL),
        ("abc", "{s.encode.hexa}", "616263"),
        ("616263", "{s.decode.hexa}", "abc"),
        ("6162x", "{s.decode.hexa}", NULL),
        ("\u{2}\u{3}\u{4}\u{5}!@#%^&*", "{s.b64encode}", "AgMEBSFAIyVeJio="),
        ("aGVsbG8=", "{s.b64decode}", "hello"),
        ("aGVsbG8", "{s.b64decode}", "hello"),
        ("aGVs!bG8=", "{s.b64decode}", "hel"),
        ("aGVsbG8=", "{s.decode.base64}", "hello"),
        ("hello", "{s.encode.base64}", "aGVsbG8="),
        ("aaaa", "{s.xor,  }", "AAAA"),
        ("aaaa", "{s.xor,AA}{s.encode.hexa}", "20202020"),
        ("it's \"a\\b\"", "{s.escape.common}", "it\\'s \\\"a\\\\b\\\""),
        ("it's \"a\\b\"", "{s.escape.common}{s.unescape.common}", "it's \"a\\b\""),
        ("a b@c", "{s.escape.user}", "a%20b%40c"),
        ("+40;x=1", "{s.escape.user}", "+40;x=1"),
        ("a%20b%40c", "{s.unescape.user}", "a b@c"),
        ("a%2", "{s.unescape.user}", NULL),
        ("a=b;c", "{s.escape.param}", "a%3Db%3Bc"),
        ("a%3Db", "{s.unescape.param}", "a=b"),
        ("a b&c", "{rest.escape}", "a%20b%26c"),
        ("a%20b", "{rest.unescape}", "a b"),
        ("Thu, 13 Jun 2024 12:48:00 GMT", "{s.date2unix}", "1718282880"),
        ("Thu, 01 Jan 1970 00:00:00 GMT", "{s.date2unix}", "0"),
        ("Sat, 29 Feb 2020 23:59:59 GMT", "{s.date2unix}", "1583020799"),
        ("yesterday", "{s.date2unix}", NULL),
    ]);
}

#[test]
fn digests() {
    table(&[
        ("abc", "{s.md5}", "900150983cd24fb0d6963f7d28e17f72"),
        ("123456789", "{s.crc32}", "3421780262"),
        ("abc", "{s.sha1}", "a9993e364706816aba3e25717850c26c9cd0d89d"),
        ("abc", "{s.sha224}", "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7"),
        ("abc", "{s.sha256}", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ("abc", "{s.sha384}{s.len}", "96"),
        ("abc", "{s.sha512}{s.substr,0,16}", "ddaf35a193617aba"),
        // RFC 2202 and RFC 4231, test case 2.
        (
            "what do ya want for nothing?",
            "{s.sha1_hmac,Jefe}",
            "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
        ),
        (
            "what do ya want for nothing?",
            "{s.sha256_hmac,Jefe}",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        ("what do ya want for nothing?", "{s.sha224_hmac,Jefe}{s.substr,0,8}", "a30e0109"),
        ("what do ya want for nothing?", "{s.sha384_hmac,Jefe}{s.substr,0,8}", "af45d2e3"),
        ("what do ya want for nothing?", "{s.sha512_hmac,Jefe}{s.substr,0,8}", "164b7a7b"),
    ]);
}

#[test]
fn parts_of_uris() {
    let uri = "sip:al:pw@sip.example.org:5070;transport=tcp;user=phone;lr;r2=on;maddr=10.0.0.1;\
               ttl=3;method=INVITE?Subject=x&y=z";
    for (chain, wanted) in [
        ("{uri.user}", "al"),
        ("{uri.passwd}", "pw"),
        ("{uri.host}", "sip.example.org"),
        ("{uri.domain}", "sip.example.org"),
        ("{uri.port}", "5070"),
        ("{uri.schema}", "sip"),
        ("{uri.transport}", "tcp"),
        ("{uri.uparam}", "phone"),
        ("{uri.lr}", ""),
        ("{uri.r2}", "on"),
        ("{uri.maddr}", "10.0.0.1"),
        ("{uri.ttl}", "3"),
        ("{uri.method}", "INVITE"),
        ("{uri.param,TTL}", "3"),
        ("{uri.param,none}", NULL),
        ("{uri.headers}", "Subject=x&y=z"),
        ("{uri.params}{param.count}", "7"),
    ] {
        assert_eq!(on(uri, chain), wanted, "{chain}");
    }
    table(&[
        ("sip:10.0.0.1", "{uri.user}", NULL),
        ("sip:10.0.0.1", "{uri.port}", NULL),
        ("sip:a@[2001:db8::1]:5061", "{uri.host}", "[2001:db8::1]"),
        ("sip:a@[2001:db8::1]:5061", "{uri.port}", "5061"),
        ("tel:+4930;phone-context=x", "{uri.user}", "+4930"),
        ("tel:+4930", "{uri.host}", NULL),
        ("nonsense", "{uri.host}", NULL),
    ]);
    let both = said(
        "$var(u) = \"sip:a@b:5070\"; $var(x) = \"no\"; \
         if ($(var(u){uri.port}) == 5070 && $(var(u){uri.port}) == \"5070\") $var(x) = \"yes\";",
        "{s.trim}",
    );
    assert_eq!(both, "yes", "a port compares as a number and as a text");
}

#[test]
fn parts_of_vias() {
    let via = "SIP/2.0/TCP [2001:db8::9]:5080;branch=z9hG4bK7;received=10.0.0.9;rport=5062 (note)";
    for (chain, wanted) in [
        ("{via.name}", "SIP"),
        ("{via.version}", "2.0"),
        ("{via.transport}", "TCP"),
        ("{via.transport}{s.tolower}", "tcp"),
        ("{via.host}", "[2001:db8::9]"),
        ("{via.domain}", "[2001:db8::9]"),
        ("{via.port}", "5080"),
        ("{via.comment}", "note"),
        ("{via.params}", "branch=z9hG4bK7;received=10.0.0.9;rport=5062"),
        ("{via.param,received}", "10.0.0.9"),
        ("{via.branch}", "z9hG4bK7"),
        ("{via.received}", "10.0.0.9"),
        ("{via.rport}", "5062"),
    ] {
        assert_eq!(on(via, chain), wanted, "{chain}");
    }
    table(&[
        ("SIP / 2.0 / UDP host ;branch=x", "{via.host}", "host"),
        ("SIP / 2.0 / UDP host ;branch=x", "{via.port}", NULL),
        ("SIP/2.0/UDP host", "{via.params}", NULL),
        ("junk", "{via.host}", NULL),
    ]);
}

#[test]
fn lists_of_parameters_fields_and_addresses() {
    table(&[
        ("a=1;b=2;c=3", "{param.value,c}", "3"),
        ("a=1;b=2;c=3", "{param.value,d}", NULL),
        ("a=0;b=2;ob;c=3", "{param.exist,ob}", "1"),
        ("a=0;b=2;ob;c=3", "{param.exist,a}", "1"),
        ("a=0;b=2;ob;c=3", "{param.exist,foo}", "0"),
        ("a=1;b=2;c=3", "{param.valueat,1}", "2"),
        ("a=1;b=2;c=3", "{param.valueat,-1}", "3"),
        ("a=1;b=2;c=3", "{param.name,1}", "b"),
        ("a=1;b=2;c=3", "{param.count}", "3"),
        ("a,b,c", "{csv.count}", "3"),
        ("a,b,c", "{csv.value,2}", "c"),
        ("a,b,c", "{csv.value,-1}", "c"),
        ("a,b,c", "{csv.value,7}", NULL),
        ("\"a,b\",\"say \"\"x\"\"\"", "{csv.value,1}", "say \"x\""),
        ("\"a,b\",c", "{csv.value,0}", "a,b"),
        ("\"test\" <sip:test@opensips.org>", "{nameaddr.name}", "\"test\""),
        ("\"test\" <sip:test@opensips.org>", "{nameaddr.uri}", "sip:test@opensips.org"),
        ("\"test\" <sip:test@opensips.org>;tag=dat43h", "{nameaddr.param,tag}", "dat43h"),
        ("<sip:a@b>;tag=d;private=yes", "{nameaddr.params}", "tag=d;private=yes"),
        ("<sip:a@b>, <sip:c@d>", "{nameaddr.1.uri}", "sip:c@d"),
        ("<sip:a@b>, <sip:c@d>", "{nameaddr.-1.uri}", "sip:c@d"),
        ("<sip:a@b>, <sip:c@d>", "{nameaddr.2.uri}", NULL),
        ("Bo <sip:a@b>", "{nameaddr.len}", "12"),
    ]);
    let chained = "{param.value,$(var(x){param.name,1})}{s.len}";
    assert_eq!(on("a=1;b=22;c=333", chained), "2");
}

#[test]
fn addresses() {
    table(&[
        ("194.168.4.134", "{ip.pton}{s.encode.hexa}", "c2a80486"),
        ("194.168.4.134", "{ip.pton}{ip.ntop}", "194.168.4.134"),
        ("2001:db8::1", "{ip.pton}{ip.ntop}", "2001:db8::1"),
        ("194.168.4.134", "{ip.pton}{ip.family}", "INET"),
        ("::1", "{ip.pton}{ip.family}", "INET6"),
        ("194.168.4.134", "{ip.isip}", "1"),
        ("194.168.4.134.1", "{ip.isip}", "0"),
        ("194.168.4.134", "{ip.isip4}", "1"),
        ("194.168.4.134", "{ip.isip6}", "0"),
        ("2001:0db8:85a3:0000:0000:8a2e:0370:7334", "{ip.isip6}", "1"),
        ("10.10.0.77", "{ip.matches,10.10.0.1/24}", "1"),
        ("10.10.1.77", "{ip.matches,10.10.0.1/24}", "0"),
        ("::1", "{ip.matches,10.10.0.1/24}", NULL),
        ("x", "{ip.matches,10.10.0.1/24}", NULL),
        ("192.168.1.1", "{ip.isprivate}", "1"),
        ("100.64.0.1", "{ip.isprivate}", "1"),
        ("127.0.0.1", "{ip.isprivate}", "1"),
        ("8.8.8.8", "{ip.isprivate}", "0"),
        ("x", "{ip.isprivate}", NULL),
        ("10.0.0.1", "{ip.resolve}", "10.0.0.1"),
        ("pbx.example.org", "{ip.resolve}", "10.9.9.9"),
        ("nowhere.example.org", "{ip.resolve}", NULL),
    ]);
}

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\n\
    m=audio 49170 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=sendrecv\r\n\
    m=video 51372 RTP/AVP 31\r\na=rtpmap:31 H261/90000\r\nm=audio 1 RTP/AVP 8\r\n";

#[test]
fn lines_and_streams_of_descriptions() {
    let sdp = |chain: &str| on(SDP, chain);
    assert_eq!(sdp("{sdp.line,a,1}"), "a=sendrecv");
    assert_eq!(sdp("{sdp.line,m}{s.select,1, }"), "49170");
    assert_eq!(sdp("{sdp.line,c}"), "c=IN IP4 10.0.0.1");
    assert_eq!(sdp("{sdp.line,b}"), NULL);
    assert_eq!(sdp("{sdp.stream,1}"), "m=video 51372 RTP/AVP 31\r\na=rtpmap:31 H261/90000\r\n");
    assert_eq!(sdp("{sdp.stream,-1}"), "m=audio 1 RTP/AVP 8\r\n");
    assert_eq!(sdp("{sdp.stream,audio}{sdp.line,a,1}"), "a=sendrecv");
    assert_eq!(sdp("{sdp.stream,text}"), NULL);
    assert_eq!(sdp("{sdp.stream-delete,video}{sdp.line,m,1}"), "m=audio 1 RTP/AVP 8");
    assert_eq!(sdp("{sdp.stream-delete,audio}{sdp.line,m,1}"), NULL);
    assert_eq!(sdp("{sdp.stream-delete,0}{sdp.line,m}"), "m=video 51372 RTP/AVP 31");
    assert_eq!(sdp("{sdp.stream-delete,text}"), NULL);
    assert_eq!(sdp("{sdp.stream-delete,9}"), NULL);
}

#[test]
fn substitutions() {
    table(&[
        ("abc", "{re.subst,/b/B/g}", "aBc"),
        ("49301234", "{re.subst,/^49(.*)$/0\\1/}", "0301234"),
        ("a,b,c", "{re.subst,/,/;/g}", "a;b;c"),
        ("aaa", "{re.subst,/a{2}/x/}", "xa"),
        ("sip:x@h", "{re.subst,/@.*//}{s.toupper}", "SIP:X"),
    ]);
    let from_var = "$var(x) = \"abc\"; $var(e) = \"/a/A/g\";";
    assert_eq!(said(from_var, "{re.subst,$var(e)}"), "Abc");
    let inside = "$var(x) = \"abc\"; $var(n) = \"<b>\";";
    assert_eq!(said(inside, "{re.subst,/b/$var(n)-\\0/}"), "a<b>-bc");
}

#[test]
fn texts_are_evaluated() {
    let setup = "$var(in) = \"client\"; $avp(l) = 1; $avp(l) = 2; $var(i) = 1;";
    let eval = |text: &str| said(&format!("{setup} $var(x) = '{text}';"), "{s.eval}");
    assert_eq!(eval("Hello, $var(in)!"), "Hello, client!");
    assert_eq!(eval("$(var(in){s.len}) $$ $(avp(l)[$var(i)]) $avp(none)"), "6 $ 1 <null>");
    assert_eq!(eval("$(var(in){re.subst,/cl/k/})"), "kient");
    assert_eq!(eval("$nope"), NULL);
    assert_eq!(eval("$(var(in){s.nope})"), NULL);
    // A text that names itself ends.
    assert_eq!(eval("$(var(x){s.eval})"), NULL);
}

#[test]
fn null_stays_null_through_a_chain() {
    assert_eq!(said("$var(x) = null;", "{s.len}"), NULL);
    assert_eq!(on("a", "{param.value,x}{s.toupper}{s.len}"), NULL);
}
