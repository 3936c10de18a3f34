//! `opensips-cli` and the `opensips` package of PyPI, unmodified, over every transport.

use std::net::Ipv4Addr;

use tandem_tests::{Network, OpensipsCli, PATIENCE, Process, Site, program};

/// A node with every way to its commands.
fn start(site: &Site) -> Process {
    let (ip, dir) = (site.net.ip(1), site.dir().display());
    let script = format!(
        "socket=udp:{ip}:5060\nloadmodule \"proto_udp.so\"\nloadmodule \"proto_bin.so\"\n\
         socket=bin:{ip}:5566\nloadmodule \"tm.so\"\nloadmodule \"sl.so\"\n\
         loadmodule \"usrloc.so\"\nloadmodule \"clusterer.so\"\nloadmodule \"statistics.so\"\n\
         modparam(\"clusterer\", \"db_mode\", 0)\nmodparam(\"clusterer\", \"my_node_id\", 1)\n\
         modparam(\"clusterer\", \"my_node_info\", \"cluster_id=1, url=bin:{ip}:5566\")\n\
         modparam(\"clusterer\", \"sharing_tag\", \"service/1=active\")\n\
         loadmodule \"mi_fifo.so\"\nmodparam(\"mi_fifo\", \"fifo_name\", \"{dir}/fifo\")\n\
         modparam(\"mi_fifo\", \"reply_dir\", \"{dir}/\")\n\
         loadmodule \"mi_datagram.so\"\n\
         modparam(\"mi_datagram\", \"socket_name\", \"udp:{ip}:8080\")\n\
         loadmodule \"httpd.so\"\nmodparam(\"httpd\", \"ip\", \"{ip}\")\n\
         loadmodule \"mi_http.so\"\nroute {{ exit; }}\n"
    );
    let file = site.write("cli.cfg", &script);
    let args = ["-F", "-f", &file.to_string_lossy(), "--state-dir", "state"];
    let log = site.dir().join("node.log");
    let mut node = Process::start("node", &program(), &args, site.dir(), &log);
    node.wait_for_output("ready", PATIENCE);
    node
}

/// The options of `opensips-cli` for each transport.
fn transports(site: &Site) -> [Vec<String>; 3] {
    let (ip, dir) = (site.net.ip(1), site.dir().display());
    [
        vec![
            "communication_type=fifo".into(),
            format!("fifo_file={dir}/fifo"),
            format!("fifo_reply_dir={dir}"),
        ],
        vec!["communication_type=http".into(), format!("url=http://{ip}:8888/mi")],
        vec![
            "communication_type=datagram".into(),
            format!("datagram_ip={ip}"),
            "datagram_port=8080".into(),
        ],
    ]
}

#[test]
fn the_command_line_of_the_field_works_over_every_transport() {
    let Some(cli) = OpensipsCli::install() else { return };
    let site = Site::bare("opensips-cli");
    let _node = start(&site);
    for options in transports(&site) {
        let run = |words: &[&str]| {
            let answer = cli.run(&options, &[&["mi"], words].concat());
            let said = [answer.stdout.as_str(), answer.stderr.as_str()].concat();
            (answer.status, said)
        };
        let fine = |words: &[&str], part: &str| {
            let (status, said) = run(words);
            assert_eq!(status, 0, "{options:?} {words:?}: {said}");
            assert!(said.contains(part), "{options:?} {words:?}: no {part:?} in {said}");
        };
        fine(&["core:version"], "Tandem");
        fine(&["core:which"], "\"usrloc:dump\"");
        fine(&["statistics:get", "rcv_requests"], "\"core:rcv_requests\": 0");
        fine(&["clusterer:list_shtags"], "\"Tag\": \"service\"");
        fine(&["usrloc:dump"], "\"Domains\"");
        fine(&["usrloc:dump", "brief=1"], "\"Domains\"");
        fine(&["clusterer:shtag_set_active", "service/1"], "OK");
        let (status, said) = run(&["clusterer:shtag_set_active", "servise/1"]);
        assert_ne!(status, 0, "{said}");
        assert!(said.contains("404"), "{said}");
    }
}

/// Asks through each connector of the package, by the names of 3.x as well.
const PACKAGE: &str = r#"
import sys
from opensips.mi import OpenSIPSMI
ip, dir = sys.argv[1:3]
ways = [
    OpenSIPSMI('fifo', fifo_file=dir + '/fifo', fifo_reply_dir=dir),
    OpenSIPSMI('http', url='http://%s:8888/mi' % ip),
    OpenSIPSMI('datagram', datagram_ip=ip, datagram_port=8080),
]
for mi in ways:
    assert mi.execute('ul_dump')['Domains'] is not None
    assert mi.execute('ul_dump', {'brief': 1})['Domains'] is not None
    assert mi.execute('get_statistics', [['rcv_requests']]) == {'core:rcv_requests': 0}
    assert mi.execute('clusterer_list_shtags')[0]['Tag'] == 'service'
    assert 'Server' in mi.execute('version')
    try:
        mi.execute('nosuch')
    except Exception as error:
        assert '-32601' in str(error), error
    else:
        assert False, 'nosuch was answered'
print('every way works')
"#;

#[test]
fn the_python_package_of_the_field_works_over_every_transport() {
    let Some(cli) = OpensipsCli::install() else { return };
    let site = Site::bare("opensips-package");
    let _node = start(&site);
    let words = [site.net.ip(1).to_string(), site.dir().display().to_string()];
    let answer = cli.python(PACKAGE, &words);
    assert!(answer.stdout.contains("every way works"), "{}{}", answer.stdout, answer.stderr);
}

#[test]
fn each_test_has_a_network_of_its_own() {
    let (one, two) = (Network::take(), Network::take());
    assert_ne!(one.ip(1), two.ip(1));
    assert_eq!(one.ip(1).octets()[0], Ipv4Addr::LOCALHOST.octets()[0]);
}
