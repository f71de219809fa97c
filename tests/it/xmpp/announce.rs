//! `autosync announce` over an account.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use autosync::engine::notice::Circle;

use super::end::{End, FOLDER, on_each};
use super::raw::DOMAIN;
use super::server::{PASSWORD, Server};
use crate::support::Sandbox;

#[test]
fn a_hook_rings_the_hosts_of_an_account() {
    on_each("a_hook_rings_the_hosts_of_an_account", |make| {
        let server = Server::shared(make);
        let user = server.account();
        let hosts = ["laptop", "office"].map(|host| End::online(host, server, &user));
        let hub = Sandbox::named("hub");
        let file = hub.config(&format!(
            "[xmpp]\njid = \"{user}@{DOMAIN}\"\nserver = \"127.0.0.1:{}\"\nca_file = \"{}\"\n\
             password = \"{PASSWORD}\"\n",
            server.port,
            server.ca().display()
        ));
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
        let commit = "ab".repeat(20);
        let args = ["announce", "--id", FOLDER, "--branch", "main", "--commit"];
        let ran = hub.run(args.into_iter().chain([commit.as_str()]));
        assert_eq!(ran.ok(), "");
        for host in &hosts {
            let (_, notice, circle) = host.expect_notice();
            assert_eq!((notice.host.as_str(), circle), ("hub.hub", Circle::Own));
            assert_eq!(notice.commit.unwrap().to_string(), commit);
        }
    });
}
