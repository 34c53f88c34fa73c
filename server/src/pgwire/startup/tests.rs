//! The first packets of a connection, whole and broken.

use super::*;

fn packet(code: u32, rest: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes()[..], rest].concat()
}

fn started(rest: &[u8]) -> Result<Startup> {
    match parse(&packet(3 << 16, rest))? {
        Packet::Startup(startup) => Ok(startup),
        other => panic!("{other:?}"),
    }
}

#[test]
fn settings_come_from_options_first() {
    let rest = b"user\0an\0database\0kho\0application_name\0psql\0\
        options\0-c kho.purpose=d --search-path=health -cTimeZone=Asia/Ho\\ Chi\\\\Minh\0\0";
    let startup = started(rest).unwrap();
    assert_eq!((startup.user.as_str(), startup.database.as_deref()), ("an", Some("kho")));
    let settings: Vec<_> =
        startup.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(
        settings,
        [
            ("kho.purpose", "d"),
            ("search_path", "health"),
            ("TimeZone", "Asia/Ho Chi\\Minh"),
            ("application_name", "psql"),
        ]
    );
}

#[test]
fn broken_packets_have_their_sqlstate() {
    let state = |rest: &[u8]| started(rest).unwrap_err().sqlstate();
    assert_eq!(state(b""), "08P01");
    assert_eq!(state(b"user\0an\0"), "08P01");
    assert_eq!(state(b"user\0an\0\0more"), "08P01");
    assert_eq!(state(b"user\0an"), "08P01");
    assert_eq!(state(b"user\0\xff\0\0"), "22021");
    assert_eq!(state(b"\0"), "28000");
    assert_eq!(state(b"user\0\0\0"), "28000");
    assert_eq!(state(b"user\0an\0options\0-z\0\0"), "42601");
    assert_eq!(state(b"user\0an\0options\0-c\0\0"), "42601");
    assert_eq!(state(b"user\0an\0options\0--=1\0\0"), "42601");
    assert_eq!(state(b"user\0an\0replication\0database\0\0"), "0A000");
    assert_eq!(parse(&packet(2 << 16, b"")).unwrap_err().sqlstate(), "0A000");
    assert_eq!(parse(b"abc").unwrap_err().sqlstate(), "08P01");
}

#[test]
fn the_other_packets() {
    assert_eq!(parse(&packet(SSL_CODE, b"")).unwrap(), Packet::SslRequest);
    assert_eq!(parse(&packet(GSS_CODE, b"")).unwrap(), Packet::GssRequest);
    assert_eq!(
        parse(&packet(CANCEL_CODE, b"\0\0\0\x07abcd")).unwrap(),
        Packet::Cancel { process_id: 7, secret: b"abcd".to_vec() }
    );
    assert!(parse(&packet(SSL_CODE, b"more")).is_err());
    assert!(parse(&packet(CANCEL_CODE, b"\0\0\0\x07abc")).is_err());
    assert!(parse(&packet(CANCEL_CODE, &[0; 261])).is_err());
}

#[test]
fn versions_are_negotiated_down() {
    let mut startup = started(b"user\0an\0\0").unwrap();
    assert_eq!(startup.negotiate(), (0, false));
    startup.minor = 2;
    assert_eq!(startup.negotiate(), (2, false));
    startup.minor = 9999;
    assert_eq!(startup.negotiate(), (2, true));
    let startup = started(b"user\0an\0_pq_.test\0on\0\0").unwrap();
    assert_eq!(startup.negotiate(), (0, true));
    assert_eq!(startup.unknown_options, ["_pq_.test"]);
}

#[tokio::test]
async fn lengths_are_checked_before_anything_is_kept() {
    for length in [0_u32, 7, 10_001, 0x7fff_ffff, 0x1603_0100, u32::MAX] {
        let mut bytes = &[&length.to_be_bytes()[..], &[0; 16]].concat()[..];
        assert_eq!(read_packet(&mut bytes).await.unwrap_err().sqlstate(), "08P01");
    }
    assert_eq!(read_packet(&mut &b""[..]).await.unwrap(), None);
    assert_eq!(read_packet(&mut &b"\0\0\0\x08ab"[..]).await.unwrap_err().sqlstate(), "08006");
}

#[tokio::test]
async fn nothing_after_a_packet_is_read() {
    let mut bytes = &[&8_u32.to_be_bytes()[..], &SSL_CODE.to_be_bytes(), b"after"].concat()[..];
    assert_eq!(read_packet(&mut bytes).await.unwrap(), Some(Packet::SslRequest));
    assert_eq!(bytes, b"after");
}
