//! The same requests about users, roles and keys to Debian's etcd and to our member: codes, texts
//! and every byte of the answers but ids, terms and tokens must agree.
//!
//! Debian's etcd is 3.4; what 3.6 decides otherwise (nested transactions, leases, compaction, the
//! member list, `AuthStatus`, permissions on no keys, an old token while logging in or while auth is
//! off) is left to the matrix and to the recorded answers of a 3.6.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use kijabi_base::clock;
use kijabi_proto::authpb::{Permission, UserAddOptions};
use kijabi_proto::etcdserverpb as pb;
use kijabi_server::Member;
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};

use crate::support::PATIENCE;
use crate::wire::Wire;
use crate::world::{AUTH, config};

/// One request: a name, who asks, the path and the message.
struct Step {
    name: String,
    who: &'static str,
    path: String,
    message: Vec<u8>,
}

/// Nobody in particular.
const NOBODY: &str = "";

#[derive(Default)]
struct Script {
    steps: Vec<Step>,
    who: &'static str,
}

impl Script {
    fn step(&mut self, path: &str, message: &impl Message) {
        let (who, message) = (self.who, message.encode_to_vec());
        let name = format!("{} as {who:?}: {path}", self.steps.len());
        self.steps.push(Step { name, who, path: path.to_owned(), message });
    }

    fn auth(&mut self, method: &str, message: &impl Message) {
        self.step(&format!("{AUTH}/{method}"), message);
    }

    fn log_in(&mut self, name: &str, password: &str) {
        let (name, password) = (name.into(), password.into());
        self.auth("Authenticate", &pb::AuthenticateRequest { name, password });
    }

    fn user_add(&mut self, name: &str, password: &str) {
        let (name, password) = (name.into(), password.into());
        self.auth("UserAdd", &pb::AuthUserAddRequest { name, password, ..Default::default() });
    }

    fn user(&mut self, name: &str) {
        self.auth("UserGet", &pb::AuthUserGetRequest { name: name.into() });
    }

    fn role(&mut self, role: &str) {
        self.auth("RoleGet", &pb::AuthRoleGetRequest { role: role.into() });
    }

    fn role_add(&mut self, name: &str) {
        self.auth("RoleAdd", &pb::AuthRoleAddRequest { name: name.into() });
    }

    fn user_grant(&mut self, user: &str, role: &str) {
        let (user, role) = (user.into(), role.into());
        self.auth("UserGrantRole", &pb::AuthUserGrantRoleRequest { user, role });
    }

    fn user_revoke(&mut self, name: &str, role: &str) {
        let (name, role) = (name.into(), role.into());
        self.auth("UserRevokeRole", &pb::AuthUserRevokeRoleRequest { name, role });
    }

    fn password(&mut self, name: &str, password: &str) {
        let (name, password) = (name.into(), password.into());
        let request = pb::AuthUserChangePasswordRequest { name, password, ..Default::default() };
        self.auth("UserChangePassword", &request);
    }

    fn grant(&mut self, role: &str, kind: i32, key: &str, end: &str) {
        let (key, range_end) = (key.to_owned().into(), end.to_owned().into());
        let perm = Some(Permission { perm_type: kind, key, range_end });
        let request = pb::AuthRoleGrantPermissionRequest { name: role.into(), perm };
        self.auth("RoleGrantPermission", &request);
    }

    fn revoke(&mut self, role: &str, key: &str, end: &str) {
        let (role, key) = (role.into(), key.to_owned().into());
        let range_end = end.to_owned().into();
        let request = pb::AuthRoleRevokePermissionRequest { role, key, range_end };
        self.auth("RoleRevokePermission", &request);
    }

    fn range(&mut self, key: &str, end: &str) {
        let (key, range_end) = (key.to_owned().into(), end.to_owned().into());
        let request = pb::RangeRequest { key, range_end, ..Default::default() };
        self.step("/etcdserverpb.KV/Range", &request);
    }

    fn put(&mut self, key: &str, prev_kv: bool) {
        let (key, value) = (key.to_owned().into(), "v".into());
        let request = pb::PutRequest { key, value, prev_kv, ..Default::default() };
        self.step("/etcdserverpb.KV/Put", &request);
    }

    fn delete(&mut self, key: &str, end: &str, prev_kv: bool) {
        let (key, range_end) = (key.to_owned().into(), end.to_owned().into());
        let request = pb::DeleteRangeRequest { key, range_end, prev_kv };
        self.step("/etcdserverpb.KV/DeleteRange", &request);
    }

    fn txn(&mut self, compared: &str, read: &str, written: &str) {
        use pb::request_op::Request as Op;
        let op = |request| pb::RequestOp { request: Some(request) };
        let read = pb::RangeRequest { key: read.to_owned().into(), ..Default::default() };
        let put = pb::PutRequest { key: written.to_owned().into(), ..Default::default() };
        let compare = pb::Compare { key: compared.to_owned().into(), ..Default::default() };
        let request = pb::TxnRequest {
            compare: vec![compare],
            success: vec![op(Op::RequestRange(read))],
            failure: vec![op(Op::RequestPut(put))],
        };
        self.step("/etcdserverpb.KV/Txn", &request);
    }

    /// What a user may do, tried on many keys and ranges.
    fn try_keys(&mut self, who: &'static str) {
        self.who = who;
        for (key, end) in [
            ("a", ""),
            ("m", ""),
            ("z", ""),
            ("m", "n"),
            ("m", "o"),
            ("a", "z"),
            ("m", "\0"),
            ("z", "\0"),
            ("\0", "\0"),
            ("", ""),
            ("one", ""),
            ("one", "\0"),
            ("one", "onf"),
            ("one", "one\0"),
        ] {
            self.range(key, end);
            self.delete(key, end, false);
            self.delete(key, end, true);
        }
        for key in ["a", "m", "z", "one", "w", ""] {
            self.put(key, false);
            self.put(key, true);
        }
        for (compared, read, written) in
            [("m", "m", "m"), ("a", "m", "m"), ("m", "a", "m"), ("m", "m", "a"), ("w", "m", "w")]
        {
            self.txn(compared, read, written);
        }
    }
}

fn off(script: &mut Script) {
    script.log_in("root", "pw");
    script.auth("AuthEnable", &pb::AuthEnableRequest {});
    script.auth("AuthDisable", &pb::AuthDisableRequest {});
    script.auth("UserList", &pb::AuthUserListRequest {});
    script.auth("RoleList", &pb::AuthRoleListRequest {});
    script.user_add("", "pw");
    script.user_add("root", "pw");
    script.user_add("root", "pw");
    script.auth("AuthEnable", &pb::AuthEnableRequest {});
    script.user_grant("root", "ghost");
    script.user_grant("ghost", "root");
    script.user_grant("root", "root");
    script.user_grant("root", "root");
    script.user("root");
    script.user("ghost");
    script.role("root");
    script.role_add("root");
    script.role_add("");
    for role in ["zebra", "middle", "aardvark"] {
        script.role_add(role);
        script.role_add(role);
    }
    script.auth("RoleList", &pb::AuthRoleListRequest {});
    for (user, password) in [("alice", "a1"), ("bob", "b1"), ("carol", ""), ("dän ny", "ü")] {
        script.user_add(user, password);
        script.user_grant(user, "middle");
        script.user_grant(user, "aardvark");
        script.user_grant(user, "zebra");
        script.user(user);
    }
    let options = Some(UserAddOptions { no_password: true });
    let user = pb::AuthUserAddRequest { name: "erin".into(), options, ..Default::default() };
    script.auth("UserAdd", &user);
    script.user_revoke("bob", "middle");
    script.user_revoke("bob", "middle");
    script.user_revoke("ghost", "middle");
    script.user_revoke("bob", "zebra");
    script.user("bob");
    for (role, kind, key, end) in [
        ("ghost", 0, "a", ""),
        ("middle", 2, "m", "n"),
        ("middle", 0, "n", "o"),
        ("middle", 0, "one", ""),
        ("middle", 1, "w", ""),
        ("middle", 1, "one", ""),
        ("middle", 2, "one", ""),
        ("aardvark", 0, "b", "\0"),
        ("aardvark", 0, "a", "ab"),
        ("zebra", 0, "q", ""),
    ] {
        script.grant(role, kind, key, end);
        script.role(role);
    }
    script.revoke("ghost", "a", "");
    script.revoke("aardvark", "b", "");
    script.revoke("aardvark", "b", "\0");
    script.revoke("aardvark", "b", "\0");
    script.role("aardvark");
    script.password("ghost", "x");
    script.password("bob", "b2");
    script.auth("RoleDelete", &pb::AuthRoleDeleteRequest { role: "ghost".into() });
    script.auth("UserDelete", &pb::AuthUserDeleteRequest { name: "ghost".into() });
    script.put("m", false);
    script.put("one", false);
}

fn on(script: &mut Script) {
    script.auth("AuthEnable", &pb::AuthEnableRequest {});
    for (user, password) in [
        ("ghost", "x"),
        ("alice", ""),
        ("alice", "A1"),
        ("erin", ""),
        ("bob", "b1"),
        ("", ""),
        ("root", "pw"),
        ("alice", "a1"),
        ("bob", "b2"),
        ("carol", ""),
        ("dän ny", "ü"),
    ] {
        script.log_in(user, password);
    }
    script.who = "no such token";
    script.range("m", "");
    script.put("m", false);
    for who in [NOBODY, "alice", "bob", "root"] {
        script.try_keys(who);
        script.user("alice");
        script.user("root");
        script.role("middle");
        script.role("zebra");
        script.role("ghost");
        script.auth("UserList", &pb::AuthUserListRequest {});
        script.auth("RoleList", &pb::AuthRoleListRequest {});
    }
    for who in [NOBODY, "alice"] {
        script.who = who;
        script.user_add("frank", "x");
        script.password("alice", "mine");
        script.user_grant("alice", "root");
        script.user_revoke("root", "root");
        script.role_add("x");
        script.grant("middle", 2, "\0", "\0");
        script.revoke("middle", "m", "n");
        script.auth("RoleDelete", &pb::AuthRoleDeleteRequest { role: "root".into() });
        script.auth("UserDelete", &pb::AuthUserDeleteRequest { name: "root".into() });
        script.auth("AuthDisable", &pb::AuthDisableRequest {});
    }
}

fn changes_under_way(script: &mut Script) {
    script.who = "root";
    script.auth("UserDelete", &pb::AuthUserDeleteRequest { name: "root".into() });
    script.auth("RoleDelete", &pb::AuthRoleDeleteRequest { role: "root".into() });
    script.user_revoke("root", "root");
    script.revoke("middle", "m", "n");
    script.who = "alice";
    script.range("m", "");
    script.range("n", "");
    script.who = "root";
    script.grant("middle", 2, "m", "n");
    script.user_revoke("alice", "middle");
    script.who = "alice";
    script.range("m", "");
    script.role("middle");
    script.who = "root";
    script.auth("RoleDelete", &pb::AuthRoleDeleteRequest { role: "zebra".into() });
    script.user("carol");
    // A changed password and a deleted user end their tokens.
    script.password("carol", "new");
    script.auth("UserDelete", &pb::AuthUserDeleteRequest { name: "bob".into() });
    for who in ["carol", "bob"] {
        script.who = who;
        script.range("m", "");
    }
    script.who = NOBODY;
    script.log_in("carol", "");
    script.log_in("carol", "new");
    script.log_in("bob", "b2");
    script.who = "carol";
    script.range("m", "");
    script.who = "root";
    script.auth("UserList", &pb::AuthUserListRequest {});
    script.auth("AuthDisable", &pb::AuthDisableRequest {});
    script.who = NOBODY;
    script.range("m", "");
    script.auth("AuthDisable", &pb::AuthDisableRequest {});
    script.auth("UserDelete", &pb::AuthUserDeleteRequest { name: "root".into() });
    script.auth("AuthEnable", &pb::AuthEnableRequest {});
}

/// A server and who has logged in there.
struct Side {
    wire: Wire,
    tokens: BTreeMap<String, String>,
}

impl Side {
    /// The answer as a text, without what may differ.
    async fn ask(&mut self, step: &Step) -> String {
        let token = match step.who {
            NOBODY => None,
            who => Some(self.tokens.get(who).map_or("nonsense", String::as_str)),
        };
        let answer = self.wire.ask(&step.path, &step.message, token).await;
        let logs_in = step.path.ends_with("/Authenticate");
        match answer {
            Ok(Some(bytes)) => {
                if logs_in {
                    let name = pb::AuthenticateRequest::decode(&step.message[..]).unwrap().name;
                    let answer = pb::AuthenticateResponse::decode(bytes.clone()).unwrap();
                    self.tokens.insert(name, answer.token);
                }
                same(&bytes, logs_in)
            }
            Ok(None) => "nothing".into(),
            Err(status) => format!("{:?} {}", status.code(), status.message()),
        }
    }
}

/// The revision of the header, and all other fields but a token.
fn same(bytes: &[u8], has_token: bool) -> String {
    let mut rest = bytes;
    let mut shown = Vec::new();
    while !rest.is_empty() {
        let field = rest;
        let (number, kind) = decode_key(&mut rest).unwrap();
        let start = rest;
        skip_field(kind, number, &mut rest, DecodeContext::default()).unwrap();
        let value = &start[..start.len() - rest.len()];
        match number {
            1 if kind == WireType::LengthDelimited => {
                let mut value = value;
                let header: pb::ResponseHeader = {
                    let length = prost::decode_length_delimiter(&mut value).unwrap();
                    pb::ResponseHeader::decode(&value[..length]).unwrap()
                };
                shown.push(format!("revision {}", header.revision));
            }
            2 if has_token => shown.push("a token".into()),
            _ => shown.push(format!("{:?}", &field[..field.len() - rest.len()])),
        }
    }
    shown.join(" ")
}

/// Debian's etcd, stopped when it is dropped.
struct Etcd(Child);

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Etcd {
    async fn start(dir: &std::path::Path) -> (Self, Wire) {
        let port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let (client, peer) = (url(port()), url(port()));
        let mut command = Command::new("etcd");
        command
            .arg("--data-dir")
            .arg(dir.join("etcd"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}"), "--bcrypt-cost", "4"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let etcd = Self(command.spawn().expect("Debian's package etcd-server is installed"));
        let deadline = clock::now() + PATIENCE;
        let wire = loop {
            let channel = tonic::transport::Channel::from_shared(client.clone()).unwrap();
            if let Ok(channel) = channel.connect().await {
                break Wire::over(channel);
            }
            assert!(clock::now() < deadline, "etcd does not serve");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        };
        let range = pb::RangeRequest { key: "a".into(), ..Default::default() };
        while wire.ask("/etcdserverpb.KV/Range", &range.encode_to_vec(), None).await.is_err() {
            assert!(clock::now() < deadline, "etcd does not answer");
        }
        (etcd, wire)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn users_roles_and_verdicts_are_debians_etcds() {
    let dir = tempfile::tempdir().unwrap();
    let (_etcd, wire) = Etcd::start(dir.path()).await;
    let mut theirs = Side { wire, tokens: BTreeMap::new() };
    let member = Member::start(config(dir.path())).await.unwrap();
    let wire = Wire::connect(&member.client_urls()[0]).await;
    let mut ours = Side { wire, tokens: BTreeMap::new() };
    let mut script = Script::default();
    off(&mut script);
    on(&mut script);
    changes_under_way(&mut script);
    let mut differences = Vec::new();
    for step in &script.steps {
        let (their_answer, our_answer) = (theirs.ask(step).await, ours.ask(step).await);
        if their_answer != our_answer {
            let name = &step.name;
            differences.push(format!("{name}\n  etcd: {their_answer}\n  ours: {our_answer}"));
        }
    }
    member.shutdown().await;
    let (differ, all) = (differences.len(), script.steps.len());
    assert!(all > 300 && differ == 0, "{differ} of {all} differ:\n{}", differences.join("\n"));
}
