use super::*;
use crate::{
    registrar::{Reach, Source},
    report::Failure,
    roles::Register,
    service::Format,
};

fn parse_with(words: &str, variables: &[(&str, &str)]) -> Result<Invocation, String> {
    let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
    let words = words.split_whitespace().map(OsString::from);
    parse(words, &Environment::new(variables)).map_err(|refusal| match refusal {
        Refusal::Text(text) => panic!("{text}"),
        Refusal::Mistake(Failure::Usage(line)) => line,
        Refusal::Mistake(failure) => panic!("{failure:?}"),
    })
}

fn refusal(words: &str, variables: &[(&str, &str)]) -> String {
    parse_with(words, variables).expect_err(words)
}

fn proxy(words: &str, variables: &[(&str, &str)]) -> Proxy {
    match parse_with(words, variables).unwrap().role {
        Role::Proxy(proxy) => proxy,
        role => panic!("{role:?}"),
    }
}

fn register(words: &str, variables: &[(&str, &str)]) -> Register {
    match parse_with(words, variables).unwrap().role {
        Role::Register(register) => register,
        role => panic!("{role:?}"),
    }
}

fn members(proxy: &Proxy) -> Vec<String> {
    proxy.registry.members.iter().map(ToString::to_string).collect()
}

#[test]
fn clap_agrees_with_the_definition() {
    command().debug_assert();
}

#[test]
fn the_articles_names_are_roles_with_the_articles_arguments() {
    let proxy = proxy(
        "/dynamic-etcd-amb redis-A 6379",
        &[("ETCD_PORT_10000_TCP_ADDR", "172.17.0.5"), ("ETCD_PORT_10000_TCP_PORT", "10000")],
    );
    assert_eq!(proxy.routes[0].listen, Listen::Any(6379));
    assert_eq!(members(&proxy), ["http://172.17.0.5:10000", "http://etcd:10000"]);
    let register = register("docker-register redis.service 6379 redis-A weight=5", &[]);
    let Source::Container { one, .. } = register.config.target.source else { panic!() };
    assert_eq!((&one.service.to_string()[..], one.instance), ("redis-A", None));
    assert_eq!(one.container, "redis.service");
    let forward = parse_with("simple-amb 172.17.42.1:4001", &[]).unwrap().role;
    assert!(matches!(forward, Role::Forward(Forward::To { listen: Listen::Any(10000), .. })));
}

#[test]
fn a_flag_wins_over_its_variable_and_an_empty_variable_is_unset() {
    let drain = |words, variables| proxy(words, variables).serving.drain.as_secs();
    assert_eq!(drain("ambassador proxy a 1", &[]), 8);
    assert_eq!(drain("ambassador proxy a 1", &[("AMBASSADOR_DRAIN", "")]), 8);
    assert_eq!(drain("ambassador proxy a 1", &[("AMBASSADOR_DRAIN", "2s")]), 2);
    assert_eq!(drain("ambassador proxy --drain 3 a 1", &[("AMBASSADOR_DRAIN", "2s")]), 3);
    assert_eq!(drain("ambassador proxy a 1 --drain=3", &[("AMBASSADOR_DRAIN", "nonsense")]), 3);
    // The variable of an option that another command has.
    assert_eq!(drain("ambassador -v proxy a 1", &[("AMBASSADOR_TTL", "nonsense")]), 8);
    for (value, explain) in [("true", true), ("false", false)] {
        let register = register("ambassador register ab 1 s", &[("AMBASSADOR_EXPLAIN", value)]);
        assert_eq!(register.explain, explain);
    }
}

#[test]
fn a_bad_variable_is_named_and_not_the_flag() {
    let line = refusal("ambassador proxy a 1", &[("AMBASSADOR_DRAIN", "soon")]);
    assert_eq!(
        line,
        "AMBASSADOR_DRAIN: invalid value 'soon': expected a duration such as 500ms, 10s or 5m"
    );
    let line = refusal("ambassador list", &[("AMBASSADOR_JSON", "yes")]);
    assert_eq!(line, "AMBASSADOR_JSON: invalid value 'yes': expected true or false");
}

/// `AMBASSADOR_CHECK=tcp` is for `register`.
#[test]
fn the_check_of_a_list_is_typed_and_never_a_variable() {
    let check = |words, value| {
        let invocation = parse_with(words, &[("AMBASSADOR_CHECK", value)]);
        let Role::List(list) = invocation.unwrap().role else { panic!() };
        list.check
    };
    for value in ["tcp", "true", "false", "nonsense"] {
        assert!(!check("ambassador list", value), "{value}");
        assert!(check("ambassador list --check", value), "{value}");
    }
    let words = "ambassador register ab 1 s";
    assert!(register(words, &[("AMBASSADOR_CHECK", "tcp")]).config.has_check);
    let line = refusal(words, &[("AMBASSADOR_CHECK", "true")]);
    assert!(line.starts_with("AMBASSADOR_CHECK: invalid value 'true'"), "{line}");
    let line = refusal("ambassador list --check=tcp", &[]);
    assert!(line.starts_with("--check"), "{line}");
}

#[test]
fn etcd_is_found_where_the_environment_says() {
    let found = |variables: &[(&str, &str)]| members(&proxy("ambassador proxy a 1", variables));
    assert_eq!(found(&[]), ["http://127.0.0.1:2379"]);
    let link = [("ETCD_PORT_4001_TCP_ADDR", "10.0.0.9"), ("ETCD_PORT_2379_TCP_ADDR", "10.0.0.8")];
    assert_eq!(found(&link), ["http://10.0.0.8:2379", "http://etcd:2379"]);
    let endpoints = ("ETCDCTL_ENDPOINTS", "a:1, http://b:2,a:1");
    assert_eq!(found(&[endpoints, link[0]]), ["http://a:1", "http://b:2"]);
    assert_eq!(found(&[endpoints, ("AMBASSADOR_ETCD", "c:3")]), ["http://c:3"]);
}

#[test]
fn link_variables_say_what_to_forward() {
    let role = parse_with(
        "ambassador forward",
        &[
            ("DB_PORT_6379_TCP", "tcp://172.17.0.2:6379"),
            ("DB_PORT_6379_TCP_ADDR", "172.17.0.2"),
            ("B_PORT_6379_TCP", "tcp://172.17.0.3:7000"),
            ("B_NAME", "/amb/my-b"),
            ("DB_PORT_53_UDP", "udp://172.17.0.2:53"),
            ("_PORT_1_TCP", "tcp://172.17.0.2:1"),
        ],
    );
    let Role::Forward(Forward::Links { ports, .. }) = role.unwrap().role else { panic!() };
    assert_eq!(ports.len(), 1);
    assert_eq!(ports[0].port.get(), 6379);
    let upstreams: Vec<String> = ports[0]
        .upstreams
        .iter()
        .map(|u| format!("{} {}", u.address, u.alternative.as_ref().unwrap()))
        .collect();
    assert_eq!(upstreams, ["172.17.0.3:7000 my-b:7000", "172.17.0.2:6379 db:6379"]);
}

#[test]
fn a_ttl_is_rounded_up_to_whole_seconds() {
    let ttl = |words| register(words, &[]).config.ttl.as_secs();
    assert_eq!(ttl("ambassador register ab 1 s"), 10);
    assert_eq!(ttl("ambassador register ab 1 s --ttl 3001ms"), 4);
    assert_eq!(ttl("ambassador register ab 1 s --ttl 1h"), 3600);
}

#[test]
fn a_fixed_address_is_registered_under_its_own_name() {
    let instance = |words| match register(words, &[]).config.target.source {
        Source::Fixed { instance, .. } => instance.to_string(),
        source => panic!("{source:?}"),
    };
    assert_eq!(instance("ambassador register --address 10.0.0.1:80 web a=b"), "10.0.0.1:80");
    assert_eq!(instance("ambassador register --address [fd00::1]:80 web"), "fd00::1:80");
    assert_eq!(
        instance("ambassador register --address 127.0.0.1:80 --host-ip 127.0.0.1 web"),
        "127.0.0.1:80"
    );
}

#[test]
fn formats_may_be_repeated_or_separated_by_commas() {
    let formats = |words, variables| register(words, variables).config.target.formats;
    let both = [Format::Registrator, Format::Skydns];
    assert_eq!(formats("ambassador register ab 1 s", &[]), [Format::Ambassador]);
    assert_eq!(formats("ambassador register ab 1 s --format registrator,skydns", &[]), both);
    let repeated = "ambassador register ab 1 s --format registrator --format skydns";
    assert_eq!(formats(repeated, &[]), both);
    let variable = [("AMBASSADOR_FORMAT", "registrator,skydns")];
    assert_eq!(formats("ambassador register ab 1 s", &variable), both);
    let typed = "ambassador register ab 1 s --format ambassador";
    assert_eq!(formats(typed, &variable), [Format::Ambassador]);
    parse_with("ambassador register ab 1 s --format consul", &[]).unwrap_err();
}

#[test]
fn an_option_of_every_command_may_stand_anywhere_and_in_the_environment() {
    let is_json = |words, variables| parse_with(words, variables).unwrap().is_json;
    let variable = [("AMBASSADOR_LOG_FORMAT", "json"), ("AMBASSADOR_PREFIX", "/other")];
    assert!(!is_json("ambassador list", &[]));
    assert!(is_json("ambassador list", &variable));
    for format in ["--log-format text", "--log-format=text"] {
        for words in [format!("ambassador {format} list"), format!("ambassador list {format}")] {
            let Invocation { is_json, role: Role::List(list), .. } =
                parse_with(&words, &variable).unwrap()
            else {
                panic!()
            };
            assert!(!is_json, "{words}");
            assert_eq!(list.registry.prefix.to_string(), "/other", "{words}");
        }
    }
    assert!(is_json("ambassador --log-format json list", &[]));
    assert!(is_json("ambassador -v --log-format json env a 1", &[]));
    assert!(is_json("ambassador forward a:1 --log-format json", &[]));
    for words in ["ambassador list --log-format xml", "ambassador --log-format xml list"] {
        let line = refusal(words, &[]);
        assert!(line.starts_with("--log-format: invalid value 'xml'"), "{line}");
    }
    let line = refusal("ambassador list", &[("AMBASSADOR_LOG_FORMAT", "xml")]);
    assert!(line.starts_with("AMBASSADOR_LOG_FORMAT: invalid value 'xml': expected"), "{line}");
}

#[test]
fn what_is_behind_two_dashes_is_the_commands() {
    let words = "ambassador exec -v --service a:b-c:1,d:e -- ls --service -v --wait 5";
    let variables = [("AMBASSADOR_WAIT", "2s"), ("AMBASSADOR_SERVICE", "x:y")];
    let Invocation { role: Role::Exec(exec), filter, .. } = parse_with(words, &variables).unwrap()
    else {
        panic!()
    };
    assert_eq!(filter, Filter::Level(LevelFilter::Debug));
    assert_eq!((exec.program, exec.arguments.len()), ("ls".into(), 4));
    let aliases: Vec<_> = exec.aliases.iter().map(|alias| &alias.in_variables[..]).collect();
    assert_eq!(aliases, ["B_C", "E"]);
    let listens: Vec<_> = exec.proxy.routes.iter().map(|r| r.listen.to_string()).collect();
    assert_eq!(listens, ["127.0.0.1:1", "127.0.0.1:0"]);
    assert_eq!(exec.proxy.serving.settings.wait.as_secs(), 2);
    let has = |name: &str| exec.options.iter().any(|option| option == name);
    assert!(has("AMBASSADOR_WAIT") && has("AMBASSADOR_ETCD_API") && has("AMBASSADOR_SERVICE"));
}

#[test]
fn every_mistake_is_one_line_that_names_what_is_wrong_and_what_is_allowed() {
    for (words, parts) in [
        ("ambassador", ["no command", "expected forward"]),
        ("ambassador frobnicate", ["frobnicate", "expected forward"]),
        ("ambassador proxy", ["SERVICE LISTEN", "--help"]),
        ("ambassador proxy a", ["a has no LISTEN", "pairs"]),
        ("ambassador proxy a 1 b", ["b has no LISTEN", "pairs"]),
        ("ambassador proxy a 1 b 1", ["LISTEN: port 1", "twice"]),
        ("ambassador proxy a/b 1", ["SERVICE: invalid value 'a/b'", "1 to 200 characters"]),
        ("ambassador proxy a 70000", ["LISTEN: invalid value '70000'", "65535"]),
        ("ambassador proxy a abc", ["LISTEN: invalid value 'abc'", "expected PORT"]),
        ("ambassador proxy a 1 --wait", ["--wait", "value"]),
        ("ambassador proxy a 1 --wait=", ["--wait", "value"]),
        ("ambassador proxy a 1 --wait -1", ["--wait: invalid value '-1'", "such as 500ms"]),
        ("ambassador proxy a 1 --wait 2h", ["--wait: invalid value '2h'", "0 to 1h"]),
        ("ambassador proxy a 1 --connect-timeout 0", ["--connect-timeout", "1ms to 5m"]),
        ("ambassador proxy a 1 --max-connections 0", ["--max-connections", "1 to 100000"]),
        (
            "ambassador proxy a 1 --etcd htp://x:1",
            ["--etcd: invalid value 'htp://x:1'", "http://HOST:PORT"],
        ),
        ("ambassador proxy a 1 --etcd x:1,,y:1", ["--etcd", "HOST:PORT"]),
        ("ambassador proxy a 1 --prefix /a/../b", ["--prefix", "1 to 200 characters"]),
        ("ambassador proxy a 1 --nope", ["--nope", "--help"]),
        ("ambassador proxy a 1 -v -q", ["verbose", "exclude"]),
        ("ambassador forward", ["no UPSTREAM", "tcp://HOST:PORT"]),
        ("ambassador forward a", ["UPSTREAM: invalid value 'a'", "expected HOST:PORT"]),
        ("ambassador forward a:0", ["UPSTREAM: invalid value 'a:0'", "1 to 65535"]),
        ("ambassador forward 0.0.0.0:80", ["UPSTREAM", "0.0.0.0 is no address"]),
        ("ambassador forward --listen x a:1", ["--listen: invalid value 'x'", "expected PORT"]),
        ("ambassador register", ["CONTAINER PORT SERVICE", "expected"]),
        ("ambassador register ab 1", ["CONTAINER PORT SERVICE", "expected"]),
        ("ambassador register ab 0 s", ["PORT: invalid value '0'", "1 to 65535"]),
        ("ambassador register a/b 1 s", ["CONTAINER: invalid value 'a/b'", "2 or more"]),
        ("ambassador register ab 1 _s", ["SERVICE: invalid value '_s'", "does not begin"]),
        ("ambassador register ab 1 s x", ["KEY=VALUE: invalid value 'x'", "expected KEY=VALUE"]),
        ("ambassador register ab 1 s x=1 x=2", ["KEY=VALUE: invalid value 'x=2'", "twice"]),
        ("ambassador register ab 1 s --ttl 2s", ["--ttl: invalid value '2s'", "3s to 1h"]),
        ("ambassador register ab 1 s --host-ip 0.0.0.0", ["--host-ip", "address of this host"]),
        ("ambassador register ab 1 s --check http", ["--check: invalid value 'http'", "tcp"]),
        ("ambassador register ab 1 s --docker /x", ["--docker", "unix:///PATH"]),
        ("ambassador register ab 1 s --instance a/b", ["--instance", "1 to 200 characters"]),
        ("ambassador register --address 127.0.0.1:1 s", ["--address 127.0.0.1:1", "--host-ip"]),
        ("ambassador register --address localhost:1 s", ["--address localhost:1", "--host-ip"]),
        ("ambassador register --address 0.0.0.0:1 s", ["--address", "0.0.0.0"]),
        ("ambassador list a b", ["b", "--help"]),
        ("ambassador env a", ["PORT", "--help"]),
        ("ambassador exec -- a", ["--service SERVICE:ALIAS[:PORT]", "missing"]),
        ("ambassador exec --service a:b", ["exec:", "-- COMMAND"]),
        ("ambassador exec --service a:b:1,c:B -- d", ["--service: alias B", "twice"]),
        ("ambassador exec --service a:b:1,c:d:1 -- e", ["--service: port 1", "twice"]),
        ("ambassador exec --service a -- b", ["--service: invalid value 'a'", "SERVICE:ALIAS"]),
        ("ambassador env a 1 --alias 1x", ["--alias: invalid value '1x'", "letters"]),
    ] {
        let line = refusal(words, &[]);
        assert!(!line.contains('\n'), "{words}: {line}");
        for part in parts {
            assert!(line.contains(part), "{words}: {line}");
        }
    }
}

#[test]
fn every_container_is_registered_by_rules() {
    let rules = |words| match register(words, &[]).config.target.source {
        Source::Host { rules, .. } => rules,
        source => panic!("{source:?}"),
    };
    let plain = rules("ambassador register --all");
    assert!(!plain.explicit && plain.allowed.is_empty());
    assert!(matches!(plain.reach, Reach::Published(_)));
    let all = "ambassador register --all --explicit --internal --network n --allow-service a,b-*";
    let rules = rules(all);
    assert!(rules.explicit && rules.allowed.iter().any(|glob| glob.matches("b-1")));
    assert!(matches!(rules.reach, Reach::Internal { network: Some(network) } if network == "n"));
    for words in [
        "register --all redis 6379 redis-A",
        "register --all --address 10.0.0.1:1 a",
        "register --all --instance a",
        "register --explicit redis 6379 redis-A",
        "register --internal redis 6379 redis-A",
        "register --allow-service a redis 6379 redis-A",
        "register --all --network n",
        "register --all --internal --host-ip 10.0.0.1",
        "register --all --internal --interface eth0",
        "register --interface eth0 --host-ip 10.0.0.1 redis 6379 redis-A",
        "register --interface eth0 --address 10.0.0.1:1 a",
        "register --all --allow-service=",
        "register --all --format ambassador,registrator",
        "register --instance i --format ambassador,registrator redis 6379 redis-A",
    ] {
        refusal(&format!("ambassador {words}"), &[]);
    }
}
