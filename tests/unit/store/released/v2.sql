BEGIN TRANSACTION;
CREATE TABLE containers (id TEXT PRIMARY KEY, document TEXT NOT NULL);
INSERT INTO "containers" VALUES('bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','{"id":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","name":"c1","phase":"active","created_ns":3,"image_id":"sha256:dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd","definition":{"image":"busybox","command":{"entrypoint":["/bin/sh"],"arguments":["-c","true"],"environment":["A=b"]},"network_mode":"blue","endpoints":{"blue":{"ipv4":"10.0.0.5"}},"names":{"servers":["9.9.9.9"],"hosts":[{"name":"h"}],"links":[["db","d"]]},"binds":[{"source":"/a","destination":"/b"}],"restart":{"mode":"always"},"config":{"Cmd":["-c","true"]}},"status":"exited","exit_code":3}');
CREATE TABLE endpoints (id TEXT PRIMARY KEY, document TEXT NOT NULL);
INSERT INTO "endpoints" VALUES('cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc','{"id":"cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc","network_id":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","sandbox_id":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","phase":"active","created_ns":2,"request":{"ipv4":"10.0.0.5","aliases":["a","b"],"gw_priority":-1},"interface":{"address":"10.0.0.5/24","address_ipv6":"fd00::5/64","mac":"02:42:0a:00:00:05"},"interface_name":"eth0","join":{"interface_name":"eth0","placed":true,"gateway":"10.0.0.1","static_routes":[{"destination":"10.9.0.0/16"}]}}');
CREATE TABLE guest_endpoints (id TEXT PRIMARY KEY, document TEXT NOT NULL);
INSERT INTO "guest_endpoints" VALUES('ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff','{"id":"ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff","network_id":"eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee","phase":"active","interface":{"address":"10.9.0.2/24","mac":"02:42:0a:09:00:02"},"options":{"o":"p"},"joined":true,"ports":[{"protocol":"tcp","container_port":80,"host_ip":"0.0.0.0","host_port":8080}]}');
CREATE TABLE guest_networks (id TEXT PRIMARY KEY, document TEXT NOT NULL);
INSERT INTO "guest_networks" VALUES('eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee','{"id":"eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee","driver":"bridge","phase":"active","spec":{"id":"eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee","name":"eeeeeeeeeeee","options":{"k":"v"},"ipv4":[{"pool_id":"cnm-LocalDefault/10.9.0.0/24","address_space":"cnm-LocalDefault","pool":"10.9.0.0/24","gateway":"10.9.0.1/24"}]}}');
CREATE TABLE guest_pools (id TEXT PRIMARY KEY, document TEXT NOT NULL);
INSERT INTO "guest_pools" VALUES('LocalDefault/10.9.0.0/24','{"id":"LocalDefault/10.9.0.0/24","ipam":"default","address_space":"LocalDefault","pool":"10.9.0.0/24","used":true}');
CREATE TABLE leases (
    pool TEXT NOT NULL, address BLOB NOT NULL, PRIMARY KEY (pool, address)) WITHOUT ROWID;
INSERT INTO "leases" VALUES('p',X'0A000001');
INSERT INTO "leases" VALUES('p',X'0A000005');
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "meta" VALUES('daemon_id','df142afefa353d4db6e4c80c13634aaec4a48ddeba983556e2de324913a0e12c');
CREATE TABLE networks (id TEXT PRIMARY KEY, document TEXT NOT NULL);
INSERT INTO "networks" VALUES('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','{"id":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","name":"blue","driver":"bridge","phase":"active","created_ns":1795482159431354014,"enable_ipv6":true,"options":{"k":"v"},"ipam_options":{},"ipam_config":[{"subnet":"10.0.0.0/24","aux_addresses":{"r":"10.0.0.9"}}],"ipv4":[{"pool_id":"p","address_space":"LocalDefault","pool":"10.0.0.0/24","gateway":"10.0.0.1/24"}],"ipv6":[{"pool_id":"q","address_space":"LocalDefault","pool":"fd00::/64"}]}');
CREATE TABLE pools (id TEXT PRIMARY KEY, document TEXT NOT NULL);
CREATE TABLE sandboxes (id TEXT PRIMARY KEY, document TEXT NOT NULL);
INSERT INTO "sandboxes" VALUES('bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','{"id":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","name":"c1","key":"/run/netns/c1","identity":{"cookie":9223372036854775808},"status":"running","created_ns":1,"labels":{"x":""}}');
CREATE TABLE sysctls (
    name TEXT PRIMARY KEY, old TEXT NOT NULL, new TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "sysctls" VALUES('net/ipv4/ip_forward','0','1');
COMMIT;
CREATE TABLE notes (
    owner TEXT NOT NULL, key TEXT NOT NULL, text TEXT NOT NULL, PRIMARY KEY (owner, key)
) WITHOUT ROWID;
