"""What a broker that is not ours has to know of devices and users.

`stored` reads them, beside a running server too. `secrets_table` reads the secrets as they were given
out. `mosquitto_passwords` and `mosquitto_acl` say them as Mosquitto reads them, as text; they open no file.
`broker.commands.broker_files` joins these and puts the text on disk.
"""
