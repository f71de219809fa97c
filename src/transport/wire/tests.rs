use proptest::prelude::*;

use super::*;

fn notice() -> Notice {
    Notice {
        folder: "0123456789abcdef".into(),
        branch: "feature/ä&b'\"<>".into(),
        commit: Some(ObjectId::from_hex("0123456789abcdef0123456789abcdef01234567").unwrap()),
        host: "my-laptop.home_1".into(),
        sequence: u64::MAX,
    }
}

#[test]
fn both_forms_come_back_as_they_went() {
    let mut sent = notice();
    assert_eq!(from_xml(&to_xml(&sent)), Ok(sent.clone()));
    assert_eq!(from_line(&to_line(&sent)), Ok(sent.clone()));
    sent.commit = None;
    assert_eq!(from_xml(&to_xml(&sent)), Ok(sent.clone()));
    assert_eq!(from_line(&format!("{}\r\n", to_line(&sent))), Ok(sent));
}

#[test]
fn what_we_do_not_know_is_ignored() {
    let text = "<push xmlns=\"urn:autosync:push:0\" repo='01234567' ref='refs/heads/main'\n\
        host='h' new='x' ><direct url='ssh://h/x'/></push>";
    let read = from_xml(text).unwrap();
    assert_eq!((read.branch.as_str(), read.commit), ("main", None));
    let line = format!("{} more words", to_line(&notice()));
    assert_eq!(from_line(&line), Ok(notice()));
}

#[test]
fn hostile_xml_is_refused() {
    let good = to_xml(&notice());
    for (bad, why) in [
        (good.replace("0123456789abcdef' ", "../../etc' "), "repo"),
        (good.replace("0123456789abcdef' ", "0123' "), "repo"),
        (
            good.replace("0123456789abcdef' ", "0123456789ABCDEF' "),
            "repo",
        ),
        (good.replace("refs/heads/", "refs/remotes/"), "ref"),
        (good.replace("refs/heads/", "refs/heads/-"), "ref"),
        (good.replace("refs/heads/", "refs/heads/../"), "ref"),
        (good.replace("refs/heads/", "refs/heads/\u{1b}"), "ref"),
        (good.replace("commit='0", "commit='-"), "commit"),
        (good.replace("commit='0", "commit='"), "commit"),
        (good.replace("my-laptop", "my laptop"), "host"),
        (good.replace("my-laptop.home_1", &"h".repeat(65)), "host"),
        (good.replace("my-laptop.home_1", ""), "host"),
        (good.replace("seq='1", "seq='+1"), "seq"),
        (
            good.replace("seq='1", "seq='99999999999999999999991"),
            "seq",
        ),
    ] {
        assert_eq!(from_xml(&bad), Err(NotANotice::Field(why)), "{bad}");
    }
    for bad in [
        good.replace(NAMESPACE, "urn:other"),
        good.replace("<push", "<pushy"),
        good.replace("/>", ""),
        good.replace("/>", ">"),
        format!("{good}<push/>"),
        format!("<!DOCTYPE x [<!ENTITY a 'b'>]>{good}"),
        good.replace("&amp;", "&a;"),
        good.replace("&amp;", "&#38;"),
        good.replace("&lt;", "<"),
        good.replace(" host=", " repo='0123456789abcdef' host="),
        good.replace(" host=", "host="),
        String::new(),
        "<push".into(),
        "<push a".into(),
        "<push a=".into(),
        "<push a='".into(),
    ] {
        assert_eq!(from_xml(&bad), Err(NotANotice::Form), "{bad}");
    }
    let long = good.replace("/>", &format!(" x='{}'/>", "x".repeat(LIMIT)));
    assert_eq!(from_xml(&long), Err(NotANotice::TooLong));
}

#[test]
fn hostile_lines_are_refused() {
    let good = to_line(&notice());
    for bad in [
        good.replace(' ', "  "),
        good.replace(' ', "\t"),
        good.replace("refs/heads/", "refs/heads/a\0"),
        good.replace("my-laptop", "my\u{7}laptop"),
        good.replace(LINE, "pushed"),
        format!("{good}\n{good}").replace("home_1 ", "home_1\n"),
        good.split(' ').take(4).collect::<Vec<_>>().join(" "),
    ] {
        assert!(from_line(&bad).is_err(), "{bad:?}");
    }
    let long = format!("{good} {}", "x".repeat(LIMIT));
    assert_eq!(from_line(&long), Err(NotANotice::TooLong));
}

#[test]
fn branches_are_what_git_takes_for_one() {
    for name in [
        "main", "a/b", "a.b", "ünï", "x@y", "a-b", "locker", "a.lock.b",
    ] {
        assert!(is_branch(name), "{name}");
    }
    for name in [
        "", "/", "a/", "/a", "a//b", ".a", "a/.b", "a.lock", "a.lock/b", "a..b", "a.", "@", "a@{b",
        "a b", "a~b", "a^b", "a:b", "a?b", "a*b", "a[b", "a\\b", "a\nb", "a\u{7f}b", "-a", "HEAD",
    ] {
        assert!(!is_branch(name), "{name:?}");
    }
    assert!(!is_branch(&"x".repeat(251)));
}

proptest! {
    #[test]
    fn no_text_breaks_the_parsers(text in "\\PC{0,200}", tail in "[<>='\"& a-z/]{0,60}") {
        for parse in [from_xml, from_line] {
            prop_assert!(parse(&text).is_err());
        }
        let framed = format!("<push xmlns='{NAMESPACE}' repo='01234567' ref='refs/heads/m' host='h'{tail}");
        if let Ok(notice) = from_xml(&framed) {
            prop_assert_eq!(from_xml(&to_xml(&notice)), Ok(notice));
        }
    }
}
