CREATE TABLE public.classifaily_delivery (
    seq bigint NOT NULL,
    source character varying NOT NULL,
    event character varying NOT NULL,
    job_id character varying NOT NULL,
    variant character varying NOT NULL,
    digest bytea NOT NULL,
    state character varying NOT NULL,
    received_at double precision NOT NULL,
    sent_at double precision,
    repeats integer DEFAULT 0 NOT NULL,
    redriven integer DEFAULT 0 NOT NULL,
    body bytea
);
CREATE SEQUENCE public.classifaily_delivery_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.classifaily_delivery_seq_seq OWNED BY public.classifaily_delivery.seq;
CREATE TABLE public.classifaily_entry (
    key bytea NOT NULL,
    namespace character varying NOT NULL,
    state character varying NOT NULL,
    run_id character varying NOT NULL,
    claimed_at double precision NOT NULL,
    settled_at double precision,
    job_id character varying,
    answer text
);
CREATE TABLE public.classifaily_expectation (
    source character varying NOT NULL,
    job_id character varying NOT NULL,
    owner character varying NOT NULL,
    expected_at double precision NOT NULL,
    settled_at double precision,
    settled_by character varying
);
CREATE TABLE public.classifaily_mark (
    consumer character varying NOT NULL,
    seq bigint NOT NULL
);
CREATE TABLE public.classifaily_meter (
    name character varying NOT NULL,
    requests bigint NOT NULL
);
CREATE TABLE public.classifaily_run (
    id character varying NOT NULL,
    process character varying NOT NULL,
    started_at double precision NOT NULL,
    beat_at double precision NOT NULL,
    ended_at double precision
);
CREATE TABLE public.classifaily_schema (
    version integer NOT NULL
);
CREATE SEQUENCE public.classifaily_schema_version_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.classifaily_schema_version_seq OWNED BY public.classifaily_schema.version;
ALTER TABLE ONLY public.classifaily_delivery ALTER COLUMN seq SET DEFAULT nextval('public.classifaily_delivery_seq_seq'::regclass);
ALTER TABLE ONLY public.classifaily_schema ALTER COLUMN version SET DEFAULT nextval('public.classifaily_schema_version_seq'::regclass);
INSERT INTO public.classifaily_delivery VALUES (2, 'default', 'job.completed', 'job_2', '', '\x44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a', 'ok', 1796000000, NULL, 1, 0, '\x7b7d');
INSERT INTO public.classifaily_delivery VALUES (3, 'default', 'job.completed', 'job_3', '', '\x44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a', 'conflict', 1796000000, NULL, 0, 0, '\x7b7d');
INSERT INTO public.classifaily_delivery VALUES (6, 'default', 'job.completed', 'job_3', '257c1be96ae69f4b01c2c69bdb6d78605f59175819fb007d0bf245bf48444c4a', '\x257c1be96ae69f4b01c2c69bdb6d78605f59175819fb007d0bf245bf48444c4a', 'conflict', 1796000000, NULL, 0, 0, '\x7b207d');
INSERT INTO public.classifaily_delivery VALUES (7, 'default', 'job.completed', 'job_1', '', '\x44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a', 'ok', 1796000000, NULL, 0, 1, '\x7b7d');
INSERT INTO public.classifaily_entry VALUES ('\x0606060606060606060606060606060606060606060606060606060606060606', '', 'open', '4c325bbd460e3d20', 1795784802.743794, NULL, NULL, NULL);
INSERT INTO public.classifaily_entry VALUES ('\x0101010101010101010101010101010101010101010101010101010101010101', '', 'done', '4c325bbd460e3d20', 1795784802.743794, 1795784802.744944, NULL, '{"labels":[{"label":"billing","confidence":0.9}]}');
INSERT INTO public.classifaily_entry VALUES ('\x0202020202020202020202020202020202020202020202020202020202020202', '', 'done', '4c325bbd460e3d20', 1795784802.743794, 1795784802.744944, NULL, '{"labels":[{"label":"billing","confidence":0.9}]}');
INSERT INTO public.classifaily_entry VALUES ('\x0303030303030303030303030303030303030303030303030303030303030303', '', 'done', '4c325bbd460e3d20', 1795784802.743794, 1795784802.744944, NULL, '{"labels":[{"label":"billing","confidence":0.9}]}');
INSERT INTO public.classifaily_entry VALUES ('\x0404040404040404040404040404040404040404040404040404040404040404', '', 'parked', '4c325bbd460e3d20', 1795784802.743794, NULL, NULL, NULL);
INSERT INTO public.classifaily_entry VALUES ('\x0505050505050505050505050505050505050505050505050505050505050505', '', 'open', '4c325bbd460e3d20', 1795784802.743794, NULL, 'job_5', NULL);
INSERT INTO public.classifaily_entry VALUES ('\x7373737373737373737373737373737373737373737373737373737373737373', 'submitted', 'done', '6cb8b45d519d9b7c', 1795784802.765085, 1795784802.766079, NULL, '{"job_id":"job_9"}');
INSERT INTO public.classifaily_expectation VALUES ('default', 'job_7', 'here', 1795784802.812226, NULL, NULL);
INSERT INTO public.classifaily_expectation VALUES ('default', 'job_1', 'here', 1795784802.812226, 1795784802.821511, 'webhook');
INSERT INTO public.classifaily_mark VALUES ('sink', 2);
INSERT INTO public.classifaily_meter VALUES ('quota', 6);
INSERT INTO public.classifaily_run VALUES ('4c325bbd460e3d20', '00000000-0000-4000-8000-000000000000:pid:[4026531836]/6174/62585', 1795784802.737455, 1795784802.749853, 1795784802.749853);
INSERT INTO public.classifaily_run VALUES ('6cb8b45d519d9b7c', '00000000-0000-4000-8000-000000000000:pid:[4026531836]/6174/62585', 1795784802.763289, 1795784802.766991, 1795784802.766991);
INSERT INTO public.classifaily_schema VALUES (1);
INSERT INTO public.classifaily_schema VALUES (2);
SELECT pg_catalog.setval('public.classifaily_delivery_seq_seq', 7, true);
SELECT pg_catalog.setval('public.classifaily_schema_version_seq', 1, false);
ALTER TABLE ONLY public.classifaily_delivery
    ADD CONSTRAINT classifaily_delivery_pkey PRIMARY KEY (seq);
ALTER TABLE ONLY public.classifaily_delivery
    ADD CONSTRAINT classifaily_delivery_source_job_id_event_variant_key UNIQUE (source, job_id, event, variant);
ALTER TABLE ONLY public.classifaily_entry
    ADD CONSTRAINT classifaily_entry_pkey PRIMARY KEY (key);
ALTER TABLE ONLY public.classifaily_expectation
    ADD CONSTRAINT classifaily_expectation_pkey PRIMARY KEY (source, job_id);
ALTER TABLE ONLY public.classifaily_mark
    ADD CONSTRAINT classifaily_mark_pkey PRIMARY KEY (consumer);
ALTER TABLE ONLY public.classifaily_meter
    ADD CONSTRAINT classifaily_meter_pkey PRIMARY KEY (name);
ALTER TABLE ONLY public.classifaily_run
    ADD CONSTRAINT classifaily_run_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.classifaily_schema
    ADD CONSTRAINT classifaily_schema_pkey PRIMARY KEY (version);
CREATE INDEX classifaily_delivery_troubled ON public.classifaily_delivery USING btree (state) WHERE ((state)::text <> 'ok'::text);
CREATE INDEX classifaily_entry_open ON public.classifaily_entry USING btree (state) WHERE ((state)::text <> 'done'::text);
CREATE INDEX classifaily_expectation_open ON public.classifaily_expectation USING btree (expected_at) WHERE (settled_at IS NULL);
