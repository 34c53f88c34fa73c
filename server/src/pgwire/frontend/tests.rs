//! Decoding what clients send, whole and broken.

use super::*;

fn framed(tag: u8, body: &[u8]) -> BytesMut {
    let mut buffer = BytesMut::from(&[tag][..]);
    buffer.extend_from_slice(&i32::try_from(body.len() + 4).unwrap().to_be_bytes());
    buffer.extend_from_slice(body);
    buffer
}

fn decoded(tag: u8, body: &[u8]) -> Result<Message> {
    decode(Frame { tag, body: Bytes::copy_from_slice(body) })
}

#[test]
fn a_message_is_taken_when_it_is_whole() {
    let whole = framed(b'Q', b"select 1\0");
    for length in 0..whole.len() {
        let mut part = BytesMut::from(&whole[..length]);
        assert!(take_frame(&mut part, 100).unwrap().is_none());
        assert_eq!(part.len(), length);
    }
    let mut buffer = whole.clone();
    buffer.extend_from_slice(b"X\0\0\0\x04");
    let frame = take_frame(&mut buffer, 100).unwrap().unwrap();
    assert!(matches!(decode(frame).unwrap(), Message::Query(query) if query.query == "select 1"));
    assert_eq!(take_frame(&mut buffer, 100).unwrap().unwrap().tag, b'X');
}

#[test]
fn lost_streams_are_noticed_before_their_bytes_are_waited_for() {
    let state = |bytes: &[u8]| take_frame(&mut BytesMut::from(bytes), 100).unwrap_err().sqlstate();
    assert_eq!(state(b"GET / HTTP/1.1"), "08P01");
    assert_eq!(state(b"Q\0\0\0\x03"), "08P01");
    assert_eq!(state(b"Q\xff\xff\xff\xff"), "08P01");
    assert_eq!(state(b"Q\x80\0\0\0"), "08P01");
    assert_eq!(state(b"Q\x7f\xff\xff\xff"), "54000");
    assert_eq!(state(b"d\0\0\0\x69"), "54000");
}

#[test]
fn broken_bodies_are_errors_and_never_read_past_their_end() {
    for (tag, body) in [
        (b'Q', &b"no end"[..]),
        (b'Q', b"two\0texts\0"),
        (b'P', b"\0select 1\0"),
        (b'P', b"\0select 1\0\0\x02\0\0\0\0"),
        (b'P', b"\0select 1\0\xff\xff"),
        (b'B', b"\0\0\0\0\0\x01\x7f\xff\xff\xff"),
        (b'B', b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0"),
        (b'B', b"\0\0\xff\xff"),
        (b'B', b"\0\0\0\0\xff\xff"),
        (b'D', b""),
        (b'D', b"Xname\0"),
        (b'E', b"\0\0\0"),
        (b'S', b"more"),
    ] {
        assert_eq!(decoded(tag, body).unwrap_err().sqlstate(), "08P01", "{tag} {body:?}");
    }
}

#[test]
fn text_that_is_not_utf8_is_refused_not_replaced() {
    let error = decoded(b'Q', b"select 'Hu\xe9'\0").unwrap_err();
    assert_eq!(error.sqlstate(), "22021");
    assert_eq!(error.message(), "invalid byte sequence for encoding \"UTF8\": 0xe9");
}

#[test]
fn bind_keeps_null_and_empty_apart() {
    let body = b"\0s\0\0\x01\0\x01\0\x03\xff\xff\xff\xff\0\0\0\0\0\0\0\x02hi\0\x01\0\x01";
    let Message::Bind(bind) = decoded(b'B', body).unwrap() else { panic!("not a bind") };
    assert_eq!(bind.portal_name, None);
    assert_eq!(bind.statement_name.as_deref(), Some("s"));
    assert_eq!(bind.parameters, [None, Some(Bytes::new()), Some(Bytes::from_static(b"hi"))]);
    assert_eq!(bind.parameter_format_codes, [1]);
    assert_eq!(bind.result_column_format_codes, [1]);
}

#[test]
fn an_execute_before_a_sync_is_alone_only_if_all_of_that_is_seen() {
    let messages = |tags: &[u8]| {
        tags.iter().fold(BytesMut::new(), |mut all, tag| {
            all.extend_from_slice(&framed(*tag, b"body"));
            all
        })
    };
    assert!(is_alone(&messages(b"S")));
    assert!(is_alone(&messages(b"CCSQ")));
    assert!(is_alone(&messages(b"SE")));
    assert!(!is_alone(&messages(b"")));
    assert!(!is_alone(&messages(b"H")));
    assert!(!is_alone(&messages(b"PBDES")));
    assert!(!is_alone(&messages(b"QS")));
    let cut = messages(b"CS");
    assert!(!is_alone(&cut[..9]));
    assert!(!is_alone(b"!"));
}
