def test_the_web_server_runs(host):
    assert host.service("web").is_running
